"""Figures of a testbed over its seeds: by arm and seed, means, differences that are paired, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.analysis.paired import half_width

Rows = Sequence[Mapping]


@dataclass(frozen=True)
class Check:
    """Something that an implementation has to meet."""

    asked: str
    found: str
    holds: bool


CHECK = {
    "asked": lambda c: c.asked,
    "found": lambda c: c.found,
    "": lambda c: "met" if c.holds else "**not met**",
}
"""Columns of a Markdown table of them."""


def values(rows: Rows, by: str, name: str) -> dict:
    """By ``by``, and then by seed, what ``name`` came to; those that have none are left out."""
    found: dict = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        if row[name] is not None:
            found.setdefault(row[by], {})[row["seed"]] = row[name]
    return found


def over_seeds(by_seed: Mapping[int, float]) -> np.ndarray:
    return np.array(list(by_seed.values()))


def less(found: Mapping, first: str, second: str) -> np.ndarray:
    """The differences of the seeds that both have."""
    return np.array([value - found[second][seed] for seed, value in found[first].items() if seed in found[second]])


def middle(numbers: np.ndarray) -> float:
    """The geometric mean."""
    return float(np.exp(np.log(numbers).mean()))


def interval(numbers: np.ndarray, sign: str = "") -> str:
    """The mean and its interval."""
    mean, margin = numbers.mean(), half_width(numbers)
    bounds = "" if margin is None else f" ({mean - margin:{sign}.3f} to {mean + margin:{sign}.3f})"
    return f"{mean:{sign}.3f}{bounds}"


def factor(numbers: np.ndarray) -> str:
    """The geometric mean of ratios and its interval."""
    mean, margin = np.log(numbers).mean(), half_width(np.log(numbers))
    bounds = "" if margin is None else f" ({np.exp(mean - margin):.2f} to {np.exp(mean + margin):.2f})"
    return f"{np.exp(mean):.2f}{bounds}"


def spread(values: np.ndarray | None, places: int = 3) -> str:
    """The mean and the standard deviation; a dash for nothing."""
    if values is None:
        return "–"
    return f"{values.mean():.{places}f}" + (f" ± {values.std(ddof=1):.{places}f}" if len(values) > 1 else "")
