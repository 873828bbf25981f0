"""Labelled data that are short of something: what to generate, whether to trust it, and what it is worth."""
