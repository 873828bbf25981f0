"""Handwritten digits of known quality: weights that are learned, and whether their gradient still tells anything."""
