"""The real documents of one round of a continual loop: its own part, and what it sees again of the parts before."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from palimpsest.config.continual import Slice


def first_share(ids: Sequence[str], share: float, salt: str = "reserve") -> set[str]:
    """The first ``ceil(share * n)`` in the order of their salted hashes: those of a smaller share are among them."""
    kept = math.ceil(share * len(ids) - 1e-9)  # 0.07 * 100 is 7.000000000000001
    return set(sorted(ids, key=lambda one: hashlib.sha256(f"{salt}:{one}".encode()).digest())[:kept])


def parts(documents: Sequence[tuple[str, object]], wanted: Slice) -> list[list[str]]:
    """The ids of all parts, in order; a document is its id and its day. None is in two."""
    used = first_share([one for one, _ in documents], wanted.share)

    def order(document: tuple[str, object]) -> tuple:
        by_hash = hashlib.sha256(f"slice:{document[0]}".encode()).digest()
        return (document[1], by_hash) if wanted.by == "interval" else (by_hash,)

    ids = [one for one, _ in sorted((d for d in documents if d[0] in used), key=order)]
    ends = [number * len(ids) // wanted.of for number in range(wanted.of + 1)]
    return [ids[first:end] for first, end in zip(ends, ends[1:], strict=False)]


def of_round(found: Sequence[Sequence[str]], wanted: Slice) -> set[str]:
    """The ids of a round's documents: its own part, and so many of earlier parts that they are the share replayed."""
    own = found[wanted.number]
    earlier = [one for part in found[: wanted.number] for one in part]
    again = math.ceil(len(own) * wanted.replay / (1 - wanted.replay) - 1e-9)
    share = min(1.0, again / len(earlier)) if earlier else 0.0
    return {*own, *first_share(earlier, share, f"replay {wanted.number}")}
