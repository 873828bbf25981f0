"""Pack, pre-train, evaluate, compare: from a study's mixes to what its data is worth. ``python -m training --help``."""
