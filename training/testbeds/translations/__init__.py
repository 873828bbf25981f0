"""Translations of the same passages: which of them help most with the target's own, and which scores find that."""
