"""What a method says of a pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata


@dataclass(frozen=True)
class Scores:
    """A score and a sampling weight for each text of the pool, in its order."""

    score: np.ndarray
    """Higher is taken first."""
    weight: np.ndarray
    """For sampling, relative to others of its origin."""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the score was made of, for people to look at."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the method says of itself, by the name that people read."""
    flops: float = 0.0
    """Additions and multiplications, counted by hand: look-ups in tables and sorting are not among them."""
    paid: Mapping[str, float] = field(default_factory=dict)
    """``seconds`` and ``cpu_seconds`` of what was made for this score before, elsewhere."""


def ranks(score: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """The rank of each score within its origin, ties shared, from 0 to 1 (the middle of its place)."""
    found = np.zeros(len(score))
    for name in set(origin):
        own = origin == name
        found[own] = (rankdata(score[own]) - 0.5) / own.sum()
    return found


def by_rank(score: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Weights that rise with the rank, from 0 for the last to 2 for the first; their mean is 1."""
    return 2 * ranks(score, origin)


def scaled(weight: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """The weights, with a mean of 1 within each origin."""
    found = weight.astype(np.float64).copy()
    for name in set(origin):
        own = origin == name
        found[own] /= found[own].mean()
    return found


def average(scores: Mapping[str, Scores], origin: np.ndarray) -> Scores:
    """The mean of the ranks that each score gives a text within its origin. Weight: by the rank of that mean.

    Two scores that err on different texts: of the documentation of CPython, half of it degraded, the average kept more
    of what was worth learning than either (the project's default until a learned score beats it).
    """
    own = {name: ranks(found.score, origin) for name, found in scores.items()}
    mean = np.mean(list(own.values()), axis=0)
    return Scores(mean, by_rank(mean, origin), {f"rank_{name}": values for name, values in own.items()})
