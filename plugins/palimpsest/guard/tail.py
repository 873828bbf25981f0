"""Rare words: how many a synthetic set keeps of those its source has, and how many sampling alone would keep.

Tails go first when models learn from models (Shumailov et al. 2024). Under pure resampling at constant size a word of
count c survives g generations with probability 1 - q_g^c, where q_0 = 0 and q_{t+1} = exp(q_t - 1): a branching
process with Poisson(1) children. It matches the linear law of Suresh et al. (2412.17646), needs no corpus, and so
tells a generator that avoids rare words from one that merely draws too few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.guard.tokens import batches, draw, size

RARE = 3
"""Most occurrences in the source of a word that counts as rare."""
ZIPF = 5
"""The same for the tail's mass: share of tokens whose word the source has at most so often (never seen included)."""
FULL = 0.95
"""A set of this share of its source's tokens is taken as full-size: its null is the analytic one."""


def survival(count: int | np.ndarray, depth: int, ratio: float = 1.0) -> float | np.ndarray:
    """Probability that a word seen ``count`` times is still there after ``depth`` generations of pure sampling.

    ``ratio`` is the size of the last generation over that of its source. Raises ValueError for depth below 1.
    """
    if depth < 1 or ratio < 0:
        raise ValueError(f"survival over {depth} generations at {ratio} of the size: depth starts at 1, ratio at 0")
    lost = math.exp(-ratio)
    for _ in range(depth - 1):
        lost = math.exp(lost - 1)
    return 1 - np.power(lost, count)


@dataclass(frozen=True)
class Source:
    """How often each word stands in the real text, and how much text it is."""

    counts: np.ndarray
    """By token number; 0 for the boundary, for unknown words and for numbers given later."""
    tokens: int

    @property
    def rare(self) -> np.ndarray:
        """Token numbers of the rare words."""
        return np.flatnonzero((self.counts > 0) & (self.counts <= RARE))


@dataclass(frozen=True)
class Tail:
    """What a set kept of its source's rare words."""

    tokens: int
    rare: int
    """Rare words of the source; 0 leaves nothing to judge."""
    kept: int
    mass: float
    """Share of the set's tokens whose word the source has at most `ZIPF` times."""
    ratio: float
    """Tokens of the set over tokens of the source."""

    @property
    def recall(self) -> float:
        return self.kept / self.rare

    @property
    def is_full(self) -> bool:
        return self.ratio >= FULL


def source(documents: Iterable[np.ndarray], types: int = 0) -> Source:
    """The counts of real documents, in one pass."""
    counts, tokens = count(documents, types)
    return Source(counts, tokens)


def count(documents: Iterable[np.ndarray], types: int = 0) -> tuple[np.ndarray, int]:
    """Occurrences by token number, and tokens; documents are read once."""
    counts, tokens = np.zeros(max(types, 2), np.int64), 0
    for batch in batches(documents):
        found = np.bincount(np.concatenate(batch))
        if len(found) > len(counts):
            counts = np.concatenate([counts, np.zeros(max(len(found), 2 * len(counts)) - len(counts), np.int64)])
        counts[: len(found)] += found
        tokens += size(batch)
    counts[:2] = 0
    return counts, tokens


def tail(counts: np.ndarray, tokens: int, of: Source) -> Tail:
    """What a set with these counts (see `count`) kept of the source's rare words."""
    size_ = max(len(counts), len(of.counts))
    ours, theirs = (np.pad(array, (0, size_ - len(array))) for array in (counts, of.counts))
    rare = of.rare
    mass = ours[theirs <= ZIPF].sum() / tokens if tokens else 0.0
    return Tail(tokens, len(rare), int((ours[rare] > 0).sum()), float(mass), tokens / max(of.tokens, 1))


def expected(of: Source, depth: int, ratio: float = 1.0) -> float:
    """The recall that pure sampling would leave: the mean survival over the source's rare words (0 if it has none)."""
    rare = of.rare
    return float(np.mean(survival(of.counts[rare], depth, ratio))) if len(rare) else 0.0


def recall_of_subsample(
    documents: Sequence[np.ndarray], of: Source, tokens: int, random: np.random.Generator
) -> float | None:
    """The recall of whole real documents drawn to so many tokens; None where the source has no rare word."""
    counts, drawn = count(draw(documents, tokens, random))
    found = tail(counts, drawn, of)
    return found.recall if found.rare else None
