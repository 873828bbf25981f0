"""How varied a text is, in blocks of equal token counts, and how far real text differs from itself.

No such figure is a gate by itself: compression crosses the null while a model dies, distinct-n rises under noisy
sampling, entropy is blind to pure sampling. They are judged on both sides, as deviations from real against real.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from palimpsest.guard.tokens import joined, runs

BLOCK = 150_000
"""Tokens of a block: the figures depend on it, so that only blocks of one size are compared."""
LEAST = 2_000
"""A block of fewer tokens says nothing."""
SPLITS = 8
FIGURES = ("entropy", "compression", "distinct_1", "distinct_2", "distinct_3")


def figures(texts: Sequence[str], documents: Sequence[np.ndarray]) -> dict[str, float]:
    """The figures of one block; ``documents`` are the texts' tokens.

    entropy: of words, bits. compression: bytes over bytes of zlib (Shaib et al. 2024, 2403.00553). distinct_n:
    distinct n-grams over n-grams, none across documents.
    """
    flat = joined(documents)
    words = flat[flat > 0]
    if not len(words):
        raise ValueError("a block without a token has no diversity; give it documents that are not empty")
    counts = np.unique(words, return_counts=True)[1]
    shares = counts / len(words)
    raw = "\n".join(texts).encode()
    found = {
        "entropy": float(-(shares * np.log2(shares)).sum()) + 0.0,
        "compression": len(raw) / len(zlib.compress(raw, 6)),
        "distinct_1": len(counts) / len(words),
    }
    for length in (2, 3):
        grams = np.sort(runs(flat, length))
        distinct = 1 + int((grams[1:] != grams[:-1]).sum()) if len(grams) else 0
        found[f"distinct_{length}"] = distinct / max(len(grams), 1)
    return found


@dataclass
class Blocks:
    """The figures of a stream, block by block; memory for one block. What is left over at the end is not counted."""

    tokens: int
    found: list[dict[str, float]] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)
    _documents: list[np.ndarray] = field(default_factory=list)
    _held: int = 0

    def add(self, text: str, document: np.ndarray) -> None:
        """The next document; a block's tokens are cut exactly, its bytes end with a document."""
        self._texts.append(text)
        while self._held + len(document) >= self.tokens:
            room = self.tokens - self._held
            self._documents.append(document[:room])
            self.found.append(figures(self._texts or [text], self._documents))
            self._texts, self._documents, self._held = [], [], 0
            document = document[room:]
        if len(document):
            self._documents.append(document)
            self._held += len(document)

    def close(self) -> None:
        """The stream has ended: what is left counts if it is all there is, as one smaller block."""
        if not self.found and self._held >= LEAST:
            self.tokens = self._held
            self.found.append(figures(self._texts, self._documents))
        self._texts, self._documents, self._held = [], [], 0

    @property
    def means(self) -> dict[str, float]:
        """The mean of each figure over whole blocks; empty where there is none."""
        return {name: float(np.mean([block[name] for block in self.found])) for name in FIGURES} if self.found else {}


@dataclass(frozen=True)
class Null:
    """What a figure is on real text: mean and standard deviation over random splits by document."""

    mean: float
    sd: float
    splits: int = SPLITS

    def z(self, value: float) -> float | None:
        """Deviations from the mean; None where real text does not vary (all documents equal)."""
        return None if self.sd <= 1e-9 * max(1.0, abs(self.mean)) else (value - self.mean) / self.sd


def null_of(values: Sequence[float]) -> Null:
    return Null(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))


def split_nulls(
    texts: Sequence[str], documents: Sequence[np.ndarray], tokens: int, *, seed: int = 0, splits: int = SPLITS
) -> dict[str, Null]:
    """The null of each figure over random draws of ``tokens`` tokens in whole documents.

    At most half the real tokens: draws that overlap more vary too little. Raises ValueError for fewer documents than
    two per split, or less text than that.
    """
    random = np.random.default_rng(seed)
    have = sum(len(document) for document in documents)
    if len(documents) < 2 * splits or have < 2 * tokens:
        raise ValueError(
            f"{splits} splits of {tokens:,} tokens need {2 * splits} documents and {2 * tokens:,} tokens of real text; "
            f"there are {len(documents)} and {have:,}"
        )
    found: list[dict[str, float]] = []
    for _ in range(splits):
        block = Blocks(tokens)
        for place in random.permutation(len(documents)).tolist():
            block.add(texts[place], documents[place])
            if block.found:
                found.append(block.found[0])
                break
    return {name: null_of([block[name] for block in found]) for name in FIGURES}


def z_scores(means: Mapping[str, float], nulls: Mapping[str, Null]) -> dict[str, float | None]:
    """Deviations of each figure from real text; None where real text does not vary."""
    return {name: nulls[name].z(value) for name, value in means.items()}
