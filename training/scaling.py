"""How many times its real tokens a mix is worth: a scaling law through the real-only runs, read off at the mix's loss.

The reference law is ``L(D) = A / D**B + C`` (A, B, C >= 0) over real tokens D. Data efficiency is ``D' / D`` with
``L(D') = loss of the mix`` (Kim et al. 2025, reused in the megadocs paper).

**Seed noise.** Two or three seeds say next to nothing about the spread of one recipe, and a bootstrap over them is too
narrow. Recipes and seeds are therefore read as a randomised block design: what remains of ``loss[recipe, seed]`` after
the recipe's mean and the seed's mean estimates one noise for all recipes, with (recipes - 1)(seeds - 1) degrees of
freedom. Seeds are paired across recipes, so what a lucky seed does to all of them cancels.

**Interval.** A profile: the mix joins the reference points at ``m * D`` tokens, the law is fitted again, and every m at
which the squared error rises by less than ``t**2 * noise**2 / seeds`` belongs to the interval. Near the floor C the
upper end is open, as it should be. The interval holds under the law; beyond the largest D the law is an assumption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import fdtri, stdtrit

EXPONENTS = (0.01, 5.0)
MULTIPLIERS = (0.01, 100.0)
"""Efficiencies considered; an interval that reaches an end of this range is reported as open there."""

Losses = Mapping[int, float]
"""Validation loss by seed."""
Verdict = Literal["reference", "resolved", "beyond floor", "not resolved"]


@dataclass(frozen=True)
class Law:
    A: float
    B: float
    C: float

    def loss(self, tokens: float) -> float:
        return self.A / tokens**self.B + self.C

    def tokens(self, loss: float) -> float:
        """Real tokens at which the law reaches ``loss``; infinite at or below its floor."""
        if loss <= self.C:
            return math.inf
        with np.errstate(over="ignore"):
            return float(np.power(np.float64(self.A / (loss - self.C)), 1 / self.B))


@dataclass(frozen=True)
class Reference:
    """The real-only recipe trained on ``tokens`` real tokens."""

    tokens: int
    losses: Losses


@dataclass(frozen=True)
class Efficiency:
    verdict: Verdict
    reason: str
    """Why it is not resolved, or what to bear in mind if it is."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """None: open, no bound found."""
    difference: float | None = None
    """Mean loss of the mix minus the real-only recipe's at full D, over the seeds both have."""
    margin: float | None = None
    """Half width of that difference's interval."""
    seeds: int = 0
    extrapolated: bool = False
    """D' lies outside the real token counts the law was fitted on."""


@dataclass(frozen=True)
class Comparison:
    law: Law | None
    problem: str
    """Why there is no usable law; empty if there is one."""
    noise: float | None
    """Standard deviation of one run's loss once recipe and seed are accounted for."""
    freedom: int
    mixes: Mapping[str, Efficiency]


def fit(tokens: Sequence[float], losses: Sequence[float]) -> Law:
    """The least-squares law. A and C follow in closed form from B, so only B is searched: no start values to choose."""
    scale = float(max(tokens))
    points = np.asarray(tokens, float)[None, :] / scale
    amplitude, exponent, floor, _ = _fit_many(points, np.asarray(losses, float)[None, :])
    return Law(float(amplitude[0]) * scale ** float(exponent[0]), float(exponent[0]), float(floor[0]))


def compare(reference: Sequence[Reference], mixes: Mapping[str, Losses], level: float = 0.95) -> Comparison:
    """The law through the reference points and the data efficiency of every mix; a named verdict in every case."""
    reference = sorted(reference, key=lambda point: point.tokens)
    common = set.intersection(*(set(point.losses) for point in reference)) if reference else set()
    noise, freedom = seed_noise([*(p.losses for p in reference), *mixes.values()], common)
    problem = _law_problem(reference, common, noise, freedom)
    law = None if problem else fit([p.tokens for p in reference], [_mean(p.losses, common) for p in reference])
    measured = {
        name: _efficiency(reference, losses, sorted(common & set(losses)), noise, freedom, problem, level)
        for name, losses in mixes.items()
    }
    return Comparison(law, problem, noise, freedom, measured)


def seed_noise(rows: Sequence[Losses], seeds: set[int]) -> tuple[float | None, int]:
    """Residual standard deviation over recipes and seeds, and its degrees of freedom (rows lacking a seed sit out)."""
    table = np.array([[row[s] for s in sorted(seeds)] for row in rows if seeds <= set(row)], float)
    freedom = (table.shape[0] - 1) * (len(seeds) - 1) if table.size else 0
    if freedom < 1:
        return None, 0
    residual = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    return float(np.sqrt((residual**2).sum() / freedom)), freedom


def _law_problem(reference: Sequence[Reference], seeds: set[int], noise: float | None, freedom: int) -> str:
    tokens = [point.tokens for point in reference]
    if len(set(tokens)) < 3:
        return (
            f"a law needs real-only runs at 3 or more token counts, found {len(set(tokens))}; "
            "add training.reference_shares"
        )
    if not seeds:
        return "the real-only runs have no seed in common, so their losses cannot be compared"
    means = [_mean(point.losses, seeds) for point in reference]
    if not np.isfinite(means).all():
        return "a real-only run has no finite loss"
    if any(later >= earlier for earlier, later in zip(means, means[1:], strict=False)):
        return "the real-only loss does not fall with every increase of real tokens, so no law can be read off it"
    amplitude, exponent, floor, error = _fit_many(_ratios(tokens)[None, :], np.array([means]))
    if not EXPONENTS[0] * 1.01 < exponent[0] < EXPONENTS[1] * 0.99:
        return f"the fitted exponent runs to the edge of its range ({exponent[0]:.2g}), so the law is not identified"
    if noise is not None:
        extra = max(1, len(tokens) - 3)
        if error[0] * len(seeds) / extra > noise**2 * fdtri(extra, freedom, 0.99):
            worst = np.abs(amplitude[0] * _ratios(tokens) ** -exponent[0] + floor[0] - means).max()
            return f"the law misses a real-only point by {worst:.3f} nats, more than seed noise explains"
    return ""


def _efficiency(
    reference: Sequence[Reference],
    losses: Losses,
    seeds: list[int],
    noise: float | None,
    freedom: int,
    problem: str,
    level: float,
) -> Efficiency:
    if not reference or not seeds:
        return Efficiency("not resolved", problem or "no seed was run for both this mix and the real-only recipe")
    full = reference[-1]
    difference = _mean(losses, seeds) - _mean(full.losses, seeds)
    if not math.isfinite(difference):
        return Efficiency("not resolved", "a run of this mix has no finite loss", seeds=len(seeds))
    quantile = float(stdtrit(freedom, (1 + level) / 2)) if freedom else None
    margin = None if noise is None else quantile * noise * math.sqrt(2 / len(seeds))
    facts = {"difference": difference, "margin": margin, "seeds": len(seeds)}
    if problem:
        return Efficiency("not resolved", problem, **facts)

    means = [_mean(point.losses, seeds) for point in reference]
    ratios = _ratios([point.tokens for point in reference])
    law = fit(ratios, means)
    value = law.tokens(_mean(losses, seeds))
    finite = value if value < MULTIPLIERS[1] else None
    facts |= {"value": finite, "extrapolated": not ratios[0] <= value <= 1}
    if len(seeds) < 2 or margin is None:
        return Efficiency("not resolved", "one seed cannot tell a difference from seed noise; use 2 or more", **facts)
    low, high = _interval(ratios, means, _mean(losses, seeds), value, quantile**2 * noise**2 / len(seeds))
    facts |= {"low": low, "high": high}
    if abs(difference) <= margin:
        reason = f"the loss difference to real-only, {difference:+.4f} ± {margin:.4f} nats, includes 0"
        return Efficiency("not resolved", reason, **facts)
    if (low is None or low <= 1) and (high is None or high >= 1):
        return Efficiency("not resolved", "the interval of the efficiency includes 1", **facts)
    if finite is None:
        reason = f"the loss lies at or below the law's floor of {law.C:.3f} nats: only a lower bound can be given"
        return Efficiency("beyond floor", reason, **facts)
    reason = ""
    if facts["extrapolated"]:
        end = f"{value:.2f} times the largest" if value > 1 else f"{value / ratios[0]:.2f} times the smallest"
        reason = f"extrapolated to {end} real-only run"
    return Efficiency("resolved", reason, **facts)


def _interval(
    ratios: np.ndarray, means: Sequence[float], loss: float, value: float, allowed: float
) -> tuple[float | None, float | None]:
    """Multipliers at which reference points and mix fit one law within ``allowed`` squared error above the best."""

    def error(multipliers: np.ndarray) -> np.ndarray:
        points = np.column_stack([np.broadcast_to(ratios, (len(multipliers), len(ratios))), multipliers])
        return _fit_many(points, np.broadcast_to(np.append(means, loss), points.shape))[3]

    centre = min(max(value, MULTIPLIERS[0]), MULTIPLIERS[1])
    limit = error(np.array([centre]))[0] + allowed

    def edge(end: float) -> float | None:
        inner, outer = centre, end
        for _ in range(2):  # two passes of 32 steps over at most four decades: 1% wide
            grid = np.geomspace(inner, outer, 33)
            outside = np.flatnonzero(error(grid) > limit)
            if not outside.size:
                return None
            inner, outer = grid[max(outside[0] - 1, 0)], grid[outside[0]]
        return float(outer)

    return edge(MULTIPLIERS[0]), edge(MULTIPLIERS[1])


def _fit_many(points: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Amplitude, exponent, floor and squared error of the best law of every row; points in units of the largest D."""
    lower = np.full(len(points), math.log(EXPONENTS[0]))
    upper = np.full(len(points), math.log(EXPONENTS[1]))
    steps = np.linspace(0, 1, 33)
    rows = np.arange(len(points))
    for _ in range(6):  # each pass narrows log B sixteenfold: 6.2 / 16**5 is below 1e-5
        exponents = np.exp(lower[:, None] + (upper - lower)[:, None] * steps)
        basis = np.exp(-exponents[:, :, None] * np.log(points)[:, None, :])
        amplitude, floor, error = _linear(basis, losses[:, None, :])
        best = error.argmin(1)
        width = (upper - lower) / (len(steps) - 1)
        centre = lower + width * best
        lower, upper = np.maximum(lower, centre - width), np.minimum(upper, centre + width)
    return amplitude[rows, best], exponents[rows, best], floor[rows, best], error[rows, best]


def _linear(basis: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of losses on amplitude * basis + floor with both at least 0, over the last axis."""
    mean, level = basis.mean(-1), losses.mean(-1)
    spread = ((basis - mean[..., None]) ** 2).sum(-1)
    amplitude = ((basis - mean[..., None]) * (losses - level[..., None])).sum(-1) / np.maximum(spread, 1e-300)
    floor = level - amplitude * mean
    through_zero = (basis * losses).sum(-1) / (basis**2).sum(-1)
    amplitude, floor = np.where(floor < 0, through_zero, amplitude), np.maximum(floor, 0)
    amplitude, floor = np.where(amplitude < 0, 0, amplitude), np.where(amplitude < 0, level, floor)
    error = ((losses - amplitude[..., None] * basis - floor[..., None]) ** 2).sum(-1)
    return amplitude, floor, error


def _ratios(tokens: Sequence[float]) -> np.ndarray:
    return np.asarray(tokens, float) / float(max(tokens))


def _mean(losses: Losses, seeds: Sequence[int] | set[int]) -> float:
    return float(np.mean([losses[seed] for seed in sorted(seeds)]))
