"""Keys under which near duplicates meet: MinHash over runs of words, banded (Broder 1997; Indyk and Motwani 1998).

The bands only propose pairs; SQL computes their Jaccard exactly. So they must miss next to nothing at the corpus'
threshold, and everything else they propose only costs time.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

HASHES = 112  # as FineWeb's
MISSED = 1e-4
"""Share of the pairs at the threshold that may meet in no band."""
WORD = re.compile(r"\w+")
MIX = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 1_024  # runs of words at a time: with all hashes half a megabyte, which stays in the processor's cache
_random = np.random.Generator(np.random.PCG64(20211208))
FACTORS = _random.integers(0, 1 << 63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
OFFSETS = _random.integers(0, 1 << 63, HASHES, dtype=np.uint64)
SMALL_FACTORS = (FACTORS >> np.uint64(32)).astype(np.uint32)[:, None] | np.uint32(1)
SMALL_OFFSETS = (OFFSETS >> np.uint64(31)).astype(np.uint32)[:, None]
LETTERS = 65_536
"""Hashed at a time; of a longer word only so many count."""
POWERS = np.cumprod(np.full(LETTERS, MIX))
INVERSES = np.cumprod(np.full(LETTERS, np.uint64(pow(int(MIX), -1, 1 << 64))))


def bands_and_rows(jaccard: float) -> tuple[int, int]:
    """How the hashes are cut: the most rows a band may have to miss no more than `MISSED` of the pairs at ``jaccard``.

    At 0.75: 28 bands of 4 rows, which miss (1 - 0.75^4)^28 = 0.00002 of them; pairs of 0.3 meet in one of five cases.
    """
    for rows in range(HASHES, 1, -1):
        if (1 - jaccard**rows) ** (HASHES // rows) <= MISSED:
            return HASHES // rows, rows
    return HASHES, 1


BANDS, ROWS = bands_and_rows(0.75)


def bands(text: str, words: int, jaccard: float = 0.75) -> list[int]:
    """One signed 64-bit key per band; empty for a text without words."""
    runs = shingles(text, words)
    if not len(runs):
        return []
    least = np.full(HASHES, np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(runs), BLOCK):
        np.minimum(least, (SMALL_FACTORS * runs[start : start + BLOCK] + SMALL_OFFSETS).min(axis=1), out=least)
    count, rows = bands_and_rows(jaccard)
    keys = np.arange(1, count + 1, dtype=np.uint64)
    for row in least[: count * rows].reshape(count, rows).T:
        keys = mixed(keys, row.astype(np.uint64))
    return keys.view(np.int64).tolist()


def shingles(text: str, words: int) -> np.ndarray:
    """A hash for every run of so many words (lower case, no punctuation), uint32; the whole text if it is shorter."""
    spoken = _word_hashes(text)
    return (run_hashes(spoken, min(words, max(len(spoken), 1))) >> np.uint64(32)).astype(np.uint32)


def run_hashes(words: np.ndarray, length: int) -> np.ndarray:
    """A hash for every run of so many words, by theirs (uint64); none if there are fewer words."""
    found = np.zeros(max(len(words) - length + 1, 0), np.uint64)
    for place in range(length):
        found = mixed(found, words[place : place + len(found)])
    return found


def mixed(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Each hash (uint64) with the other at its place taken into it."""
    hashes = (hashes ^ others) * MIX
    return hashes ^ (hashes >> np.uint64(29))


def _word_hashes(text: str) -> np.ndarray:
    """A hash for every word, uint64: of whole arrays of letters, for no word becomes an object of Python's."""
    letters = np.frombuffer(text.lower().encode("utf-32-le", "surrogatepass"), "<u4")
    inside = np.zeros(len(letters) + 2, np.int8)
    inside[1:-1] = _in_words().take(letters)
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    found, first = [np.zeros(0, np.uint64)], 0
    while first < len(starts):
        begin = starts[first]
        last = max(first + 1, np.searchsorted(ends, begin + LETTERS, "right"))
        reached = np.zeros(min(ends[last - 1] - begin, LETTERS) + 1, np.uint64)
        np.cumsum(letters[begin : begin + LETTERS][: len(reached) - 1] * POWERS[: len(reached) - 1], out=reached[1:])
        here = starts[first:last] - begin
        found.append((reached[np.minimum(ends[first:last] - begin, LETTERS)] - reached[here]) * INVERSES[here])
        first = last
    return np.concatenate(found)


@cache
def _in_words() -> np.ndarray:
    """1 for every code point that is part of a word, int8."""
    found = np.zeros(0x110000, np.int8)
    for run in WORD.finditer("".join(map(chr, range(len(found))))):
        found[run.start() : run.end()] = 1
    return found
