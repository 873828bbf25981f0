"""The collapse guard's measures: what generated text lost of the real text, and what a gate makes of it."""
