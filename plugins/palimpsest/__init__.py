"""Palimpsest: web pages written over again, sewn into megadocs, and what that is worth in real tokens."""
