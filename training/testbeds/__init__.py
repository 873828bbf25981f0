"""Data of known quality on which ways to select are held against what others measured."""
