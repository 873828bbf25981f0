"""What a word is, and runs of words that texts share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

WORD = re.compile(r"[^\W_]+")
"""A run of letters and digits, in text whose case was lowered: the gates' SQL cuts texts the same way."""
BASE = np.uint64(0x9E3779B97F4A7C15)


class SharedRuns:
    """Finds the runs of ``length`` words that a text shares with one of ``texts``.

    Memory is for the words of ``texts`` alone, which are read once. Runs are found by a hash and compared word by word.
    """

    def __init__(self, texts: Iterable[str], length: int) -> None:
        self.length = length
        self._numbers: dict[str, int] = {}
        own = [[self._numbers.setdefault(w, len(self._numbers) + 1) for w in WORD.findall(t.lower())] for t in texts]
        self.texts = len(own)
        self._words = np.concatenate([np.array([*ids, 0], np.int64) for ids in own] or [np.zeros(0, np.int64)])
        self._owner = np.repeat(np.arange(len(own)), [len(ids) + 1 for ids in own])
        starts, hashes = _runs(self._words, length)
        order = np.argsort(hashes, kind="stable")
        self._starts, self._hashes = starts[order], hashes[order]

    def hits(self, text: str) -> Iterator[tuple[int, str]]:
        """Place among ``texts`` and words of every shared run, in the order of ``text``."""
        spoken = WORD.findall(text.lower())
        theirs = np.fromiter((self._numbers.get(word, 0) for word in spoken), np.int64, len(spoken))
        begin, sought = _runs(theirs, self.length)
        first, last = (np.searchsorted(self._hashes, sought, side) for side in ("left", "right"))
        for hit in np.flatnonzero(last > first):
            run = theirs[begin[hit] : begin[hit] + self.length]
            for start in self._starts[first[hit] : last[hit]]:
                if np.array_equal(run, self._words[start : start + self.length]):
                    yield int(self._owner[start]), " ".join(spoken[begin[hit] : begin[hit] + self.length])


def _runs(numbers: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and hash of every run of so many numbers without a 0 in it."""
    zeros = np.concatenate([[0], np.cumsum(numbers == 0)])
    starts = np.flatnonzero(zeros[length:] == zeros[: max(0, len(zeros) - length)])
    hashes = np.zeros(len(starts), np.uint64)
    for place in range(length):
        hashes = hashes * BASE + numbers[starts + place].astype(np.uint64)
    return starts, hashes
