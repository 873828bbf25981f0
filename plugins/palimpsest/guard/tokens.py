"""Texts as numbers: the words and marks that the guard counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

TOKEN = re.compile(r"\w+|[^\w\s]")
"""A word, or one mark: a language model of words needs both. Case is kept, for what is lost first is names."""
BOUNDARY, UNKNOWN = 0, 1
"""What stands between documents, and every word beyond a vocabulary."""
BITS = 21
LIMIT = 1 << BITS
"""Three numbers fit 63 bits; words after the first two million count as one unknown word."""
BATCH = 1 << 18
"""Tokens taken at a time: 1 MB of 32-bit numbers."""


class Vocabulary:
    """Numbers words in the order in which they are met, from 2."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self.words = self._numbers.words

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str, *, grow: bool = True) -> np.ndarray:
        """The tokens' numbers, int32; new words get one (`UNKNOWN` with ``grow`` off, or beyond `LIMIT`)."""
        found = TOKEN.findall(text)
        if grow:
            return np.fromiter(map(self._numbers.__getitem__, found), np.int32, len(found))
        known = self._numbers.get
        return np.fromiter((known(word, UNKNOWN) for word in found), np.int32, len(found))

    def decode(self, numbers: np.ndarray) -> str:
        """The words with single spaces between them: not the text they came from, but the same tokens."""
        return " ".join([self.words[number] for number in numbers])


class _Numbers(dict):
    def __init__(self) -> None:
        super().__init__()
        self.words = ["", "\N{REPLACEMENT CHARACTER}"]

    def __missing__(self, word: str) -> int:
        if len(self.words) >= LIMIT:
            return UNKNOWN
        self[word] = number = len(self.words)
        self.words.append(word)
        return number


def batches(documents: Iterable[np.ndarray], tokens: int = BATCH) -> Iterator[list[np.ndarray]]:
    """Consecutive documents, together about so many tokens at a time."""
    held, count = [], 0
    for document in documents:
        held.append(document)
        count += len(document)
        if count >= tokens:
            yield held
            held, count = [], 0
    if held:
        yield held


def joined(documents: Sequence[np.ndarray]) -> np.ndarray:
    """All documents in one array, two boundaries before each and two at the end: the contexts of a trigram."""
    gap = np.zeros(2, np.int32)
    return np.concatenate([part for document in documents for part in (gap, document)] + [gap]).astype(np.int32)


def size(documents: Iterable[np.ndarray]) -> int:
    """Tokens of all documents together."""
    return sum(len(document) for document in documents)


def draw(documents: Sequence[np.ndarray], tokens: int, random: np.random.Generator) -> list[np.ndarray]:
    """Whole documents in random order, the last one cut, until they are so many tokens (all, if they are fewer)."""
    return first((documents[place] for place in random.permutation(len(documents))), tokens)


def first(documents: Iterable[np.ndarray], tokens: int) -> list[np.ndarray]:
    """The first documents, the last one cut, that are so many tokens together (all, if they are fewer)."""
    taken: list[np.ndarray] = []
    left = tokens
    for document in documents:
        if left <= 0:
            break
        taken.append(document[:left])
        left -= len(taken[-1])
    return taken


def runs(flat: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of every run of so many tokens that holds no boundary, in order (exact up to three tokens)."""
    if len(flat) < length:
        return np.zeros(0, np.uint64)
    ends = len(flat) - length + 1
    found = np.zeros(ends, np.uint64)
    base = np.uint64(1 << BITS) if length <= 3 else np.uint64(0x9E3779B97F4A7C15)
    for place in range(length):
        found = found * base + flat[place : place + ends].astype(np.uint64)
    zeros = np.concatenate([[0], np.cumsum(flat == BOUNDARY)])
    return found[zeros[length:] == zeros[:ends]]
