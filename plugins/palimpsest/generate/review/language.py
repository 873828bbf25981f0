"""Text in another language than its source, or one that changes its language on the way."""

from __future__ import annotations

from palimpsest.ingest import langid

JUDGED = 200
"""Letters below which a text is not judged: names, numbers and code decide what so little looks like."""
SAMPLE = 200
"""Characters read at the beginning, in the middle and at the end: what the model knows it knows from these."""
SURE = 0.6
"""Confidence, of the source and of the text, below which nothing is said."""
ALIKE = [
    {"no", "nb", "nn", "da"},
    {"hr", "bs", "sr", "sh"},
    {"id", "ms", "min", "jv", "su"},
    {"zh", "wuu", "yue"},
    {"fa", "mzn", "ckb"},
    {"cs", "sk"},
    {"gl", "pt"},
    {"es", "ast", "an"},
    {"ru", "uk", "be", "bg", "mk"},
    {"en", "sco", "simple"},
    {"de", "als", "nds", "bar", "lb"},
    {"hi", "mr", "ne", "bh", "sa"},
    {"az", "tr"},
]
"""Languages the model takes for each other."""


def language(text: str, source: str | None) -> str | None:
    """``source``: the language of the source, None where it is not known."""
    if source is None or sum(map(str.isalpha, text[: 3 * JUDGED])) < JUDGED:
        return None
    found, score = langid.identify(sample(text))
    if score < SURE or found == source or any({found, source} <= alike for alike in ALIKE):
        return None
    return f"{found}, and its source is {source}"


def of_source(text: str) -> str | None:
    """The language of a source; None if it is too short or too mixed to tell."""
    if sum(map(str.isalpha, text[: 3 * JUDGED])) < JUDGED:
        return None
    found, score = langid.identify(sample(text))
    return found if score >= SURE else None


def sample(text: str) -> str:
    if len(text) <= 3 * SAMPLE:
        return text
    middle = (len(text) - SAMPLE) // 2
    return f"{text[:SAMPLE]} {text[middle : middle + SAMPLE]} {text[-SAMPLE:]}"
