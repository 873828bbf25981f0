"""Personal data that the model made up or knew: values of `ingest.pii` that the source does not hold."""

from __future__ import annotations

from collections import Counter

from palimpsest.generate.review.facts import Facts
from palimpsest.ingest import pii


def personal(text: Facts, source: Facts) -> str | None:
    """Kinds and counts, never the values: a reason is read by people and kept."""
    found = list(pii.find(text.text))
    if not found:
        return None
    known = {_plain(kind, value) for kind, value in pii.find(source.text)}
    new = Counter(kind for kind, value in found if _plain(kind, value) not in known)
    return ", ".join(f"{kind} ×{count}" for kind, count in sorted(new.items())) or None


def _plain(kind: str, value: str) -> tuple[str, str]:
    """A number written with other blanks is the same number."""
    return kind, "".join(filter(str.isdigit, value)) if kind == "phone" else value.lower()
