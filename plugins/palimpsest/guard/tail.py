"""Rare words: how many a synthetic set keeps of those its source has, and how many sampling alone would keep.

Tails go first when models learn from models (Shumailov et al. 2024). Under pure resampling at constant size a word of
count c survives g generations with probability 1 - q_g^c, where q_0 = 0 and q_{t+1} = exp(q_t - 1): a branching
process with Poisson(1) children. It matches the linear law of Suresh et al. (2412.17646), needs no corpus, and so
tells a generator that avoids rare words from one that merely draws too few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.guard.diversity import SPLITS, Null, null_of
from palimpsest.guard.tokens import BITS, LIMIT

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
    """How often each word stands in the real text, in how many documents, and how much text it is."""

    counts: np.ndarray
    """By token number."""
    spread: np.ndarray
    """Documents that have the word, by token number."""
    tokens: int
    documents: int

    @property
    def rare(self) -> np.ndarray:
        """Token numbers of the rare words."""
        return 2 + np.flatnonzero((self.counts[2:] > 0) & (self.counts[2:] <= RARE))


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


class Counts:
    """Occurrences of each token number in a stream of documents; ``spread`` too where documents matter."""

    def __init__(self, *, spread: bool = False) -> None:
        self.tokens = self.documents = 0
        self._counts, self._spread = np.zeros(1 << 12, np.int64), np.zeros(1 << 12, np.int64) if spread else None

    def add(self, documents: Sequence[np.ndarray]) -> None:
        """The next documents, some at a time."""
        self.documents += len(documents)
        flat = np.concatenate(documents) if documents else np.zeros(0, np.int32)
        self.tokens += len(flat)
        self._counts = _plus(self._counts, flat)
        if self._spread is not None and len(flat):
            owners = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
            pairs = np.unique(owners << BITS | flat)
            self._spread = _plus(self._spread, pairs & (LIMIT - 1))

    @property
    def counts(self) -> np.ndarray:
        return self._counts

    def source(self) -> Source:
        """What was counted, as the text that others are judged by. Only with ``spread``."""
        return Source(self._counts, self._spread, self.tokens, self.documents)


def tail(counts: Counts, of: Source) -> Tail:
    """What a set with these counts kept of the source's rare words."""
    size = max(len(counts.counts), len(of.counts))
    ours, theirs = (np.pad(array, (0, size - len(array))) for array in (counts.counts, of.counts))
    rare = of.rare
    thin = int(ours[2:][theirs[2:] <= ZIPF].sum())
    mass = thin / counts.tokens if counts.tokens else 0.0
    return Tail(counts.tokens, len(rare), int((ours[rare] > 0).sum()), mass, counts.tokens / max(of.tokens, 1))


def sampled(of: Source, depth: int, ratio: float = 1.0) -> float:
    """The recall that pure sampling would leave: the mean survival over the source's rare words (0 if it has none)."""
    rare = of.rare
    return float(np.mean(survival(of.counts[rare], depth, ratio))) if len(rare) else 0.0


def subsampled(of: Source, ratio: float) -> float:
    """The recall that real text would have: the mean over random draws of that share of the source's documents."""
    rare = of.rare
    return float(np.mean(1 - (1 - min(ratio, 1.0)) ** of.spread[rare])) if len(rare) else 0.0


def mass_null(of: Source, documents: Sequence[np.ndarray], tokens: int, seed: int = 0) -> Null | None:
    """The tail's mass of random draws of the source's own ``documents``, so many tokens each, but half at most.

    None for fewer documents than two per draw.
    """
    if len(documents) < 2 * SPLITS:
        return None
    sizes = np.array([len(document) for document in documents])
    thin = np.array([((of.counts[document] <= ZIPF) & (document > 1)).sum() for document in documents])
    random, shares = np.random.default_rng(seed), []
    for _ in range(SPLITS):
        order = random.permutation(len(documents))
        drawn = order[: 1 + int(np.searchsorted(np.cumsum(sizes[order]), min(tokens, sizes.sum() // 2)))]
        shares.append(thin[drawn].sum() / max(1, sizes[drawn].sum()))
    return null_of(shares)


def _plus(counts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    found = np.bincount(numbers)
    if len(found) > len(counts):
        counts = np.concatenate([counts, np.zeros(2 * len(found) - len(counts), np.int64)])
    counts[: len(found)] += found
    return counts
