"""Keys under which near duplicates meet: MinHash over word shingles, banded (Broder 1997; LSH as in FineWeb).

28 bands of 4 rows: two pages of Jaccard 0.75 share a band with probability 1 - (1 - 0.75^4)^28 > 0.9999, at 0.3 with
0.2. The bands only propose pairs; SQL computes their Jaccard exactly.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

BANDS, ROWS = 28, 4
WORD = re.compile(r"\w+")
_random = np.random.Generator(np.random.PCG64(20211208))
FACTORS = _random.integers(0, 1 << 63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
OFFSETS = _random.integers(0, 1 << 63, BANDS * ROWS, dtype=np.uint64)


def shingles(text: str, words: int) -> set[str]:
    """The runs of so many words (lower case, no punctuation); the whole text if it is shorter."""
    found = WORD.findall(text.lower())
    return {" ".join(found[i : i + words]) for i in range(max(len(found) - words + 1, 1))} if found else set()


def bands(text: str, words: int) -> list[int]:
    """One signed 64-bit key per band; empty for a text without words."""
    pieces = shingles(text, words)
    if not pieces:
        return []
    digests = b"".join(hashlib.blake2b(piece.encode(), digest_size=8).digest() for piece in sorted(pieces))
    hashes = np.frombuffer(digests, dtype="<u8")
    with np.errstate(over="ignore"):
        signature = ((hashes[:, None] * FACTORS + OFFSETS) >> np.uint64(16)).min(axis=0)
    rows = signature.astype("<u8").reshape(BANDS, ROWS)
    keys = [hashlib.blake2b(bytes([i]) + row.tobytes(), digest_size=8).digest() for i, row in enumerate(rows)]
    return [int.from_bytes(key, "little", signed=True) for key in keys]
