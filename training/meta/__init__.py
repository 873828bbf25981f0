"""Data weights that are learned with the model: a network that gives examples weights, and whether it still learns."""
