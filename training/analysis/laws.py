"""Laws ``A / x**B + C`` through measured losses: least squares with A, B, C >= 0, bootstrap intervals, leave-one-out.

x is real tokens, parameters (embeddings included, see `training.analysis.members`) or generations per document; that in
members of an ensemble is in `training.analysis.ensembles`, as its points share them (the paper and its predecessor fit
real tokens, parameters and members; for G they draw points only, Kim et al. 2026). C is the loss at infinite x.

**What the bootstrap resamples.** Each x has two or three seeds, too few to resample, and they are paired: a lucky seed
lowers every loss alike. The points of a law and their seeds are therefore read as a randomised block design. What
remains of ``loss[point, seed]`` after the point's and the seed's mean is one pool of residuals for the points of this
law and no other's (they differ in x alone; other recipes of a study may scatter ten times as much), stretched to their
unbiased variance. A draw puts residuals back on the fitted law, as many per point as there are
seeds, and fits again. The variance itself is known from few degrees of freedom, so every draw also scales its residuals
by a draw of that uncertainty; without it the intervals are those of a known variance and too narrow. Where no seed was
repeated, the law's own residuals stand in (5 points or more): then misfit counts as noise. What a seed does to all
points alike moves C and nothing else, and is in no interval: they are those of the law of these seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

EXPONENTS = (0.01, 5.0)
DRAWS = 2_000
MISFIT = 0.01
"""Chance that a law which holds is said to miss its points. A test, not the level of an interval."""

Losses = Mapping[int, float]
"""Validation loss by seed."""


@dataclass(frozen=True)
class Law:
    A: float
    B: float
    C: float

    def loss(self, x: float) -> float:
        return self.A / x**self.B + self.C

    def tokens(self, loss: float) -> float:
        """Where (at how many real tokens) the law reaches ``loss``; infinite at or below its floor."""
        if loss <= self.C:
            return math.inf
        with np.errstate(over="ignore"):
            return float(np.power(np.float64(self.A / (loss - self.C)), 1 / self.B))


@dataclass(frozen=True)
class Noise:
    """What a run's loss scatters by once its recipe and its seed are accounted for."""

    deviation: float | None
    freedom: int
    residuals: tuple[float, ...] = ()
    """Of recipes x seeds, stretched so that their variance is unbiased."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
        """Residuals for (draws, points, seeds); each draw with its own idea of how large they are."""
        scale = np.sqrt(self.freedom / rng.chisquare(self.freedom, (shape[0], 1, 1)))
        return rng.choice(np.asarray(self.residuals), shape) * scale


@dataclass(frozen=True)
class Fit:
    """A law through the points of one series, and how far it can be trusted."""

    law: Law | None
    problem: str
    """Why there is none, or what to hold against this one; empty if nothing."""
    points: int
    seeds: int = 0
    r2: float | None = None
    """Share of the variance of the points' means; says nothing where points are as few as parameters."""
    low: Law | None = None
    high: Law | None = None
    """Bounds of each parameter by itself, 95%."""
    resampled: str = ""
    """'seeds' or 'fit': which residuals the interval was drawn from; 'members': each was left out once."""
    left_out: tuple[float, ...] = ()
    """Per point: what the law through the others predicts there, minus what was measured."""
    floors: tuple[float, float] | None = None
    """Smallest and largest C over those laws."""


def fit(x: Sequence[float], losses: Sequence[float]) -> Law:
    """The least-squares law. A and C follow in closed form from B, so only B is searched: no start values to choose."""
    scale = float(max(x))
    amplitude, exponent, floor, _ = fit_many(ratios(x)[None, :], np.asarray(losses, float)[None, :])
    return Law(float(amplitude[0]) * scale ** float(exponent[0]), float(exponent[0]), float(floor[0]))


def fit_series(
    x: Sequence[float],
    losses: Sequence[Losses],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Fit:
    """The law through the means over the seeds all points share, with everything that can be said against it."""
    order = np.argsort(x)
    x, losses = [float(x[i]) for i in order], [losses[i] for i in order]
    seeds = sorted(set.intersection(*(set(point) for point in losses))) if losses else []
    if len(set(x)) < 3:
        return Fit(None, f"a law needs 3 or more points, found {len(set(x))}", len(set(x)))
    if not seeds:
        return Fit(None, "the points have no seed in common, so their losses cannot be compared", len(x))
    y = np.array([mean(point, seeds) for point in losses])
    if not np.isfinite(y).all():
        return Fit(None, "a point has no finite loss", len(x), len(seeds))
    law = fit(x, y)
    expected = np.array([law.loss(value) for value in x])
    error = float(((y - expected) ** 2).sum())
    spread = float(((y - y.mean()) ** 2).sum())
    facts: dict = {"points": len(x), "seeds": len(seeds), "r2": 1 - error / spread if spread > 0 else None}
    noise = block_noise(losses, set(seeds))
    pool, count, name = _pool(noise, y - expected, len(seeds))
    if pool is not None:
        shaken = expected + pool.draw(np.random.default_rng(seed), (draws, len(x), count)).mean(-1)
        facts |= {"resampled": name, **_bounds(x, shaken, level)}
    if len(x) >= 4:
        facts |= leave_one_out(x, y)
    return Fit(law, "; ".join(filter(None, (misses(law, x, y, noise, len(seeds)), reservation(law, x, y)))), **facts)


def block_noise(rows: Sequence[Losses], seeds: set[int]) -> Noise:
    """Residuals over recipes and the given seeds; recipes that lack one of them, or a finite loss, sit out."""
    rows = [row for row in rows if seeds <= set(row) and all(math.isfinite(row[s]) for s in seeds)]
    table = np.array([[row[s] for s in sorted(seeds)] for row in rows], float)
    freedom = (table.shape[0] - 1) * (len(seeds) - 1) if table.size else 0
    if freedom < 1:
        return Noise(None, 0)
    residual = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    stretched = residual.ravel() * math.sqrt(residual.size / freedom)
    return Noise(float(np.sqrt((residual**2).sum() / freedom)), freedom, tuple(stretched.tolist()))


def misses(law: Law, x: Sequence[float], y: Sequence[float], noise: Noise, seeds: int) -> str:
    """By how much the law misses its own points, where seed noise does not explain it; empty otherwise.

    ``y`` are means over ``seeds`` seeds. An F test of the lack of fit at `MISFIT`; none without repeated seeds.
    """
    if noise.deviation is None:
        return ""
    missed = np.array([law.loss(value) for value in x]) - np.asarray(y)
    extra = max(1, len(missed) - 3)
    if float((missed**2).sum()) * seeds / extra <= noise.deviation**2 * fdtri(extra, noise.freedom, 1 - MISFIT):
        return ""
    return f"the law misses a point by {np.abs(missed).max():.3f} nats, more than seed noise explains"


def reservation(law: Law, x: Sequence[float], y: Sequence[float]) -> str:
    """What the shape of the fit has against it; empty if nothing. Points in the order of x."""
    if law.A == 0 or y[-1] >= y[0]:
        return "the loss does not fall along the series"
    if not EXPONENTS[0] * 1.01 < law.B < EXPONENTS[1] * 0.99:
        return f"the exponent runs to the edge of its range ({law.B:.2g}): the law is not identified"
    if len(x) == 3:
        return "as many points as parameters: nothing is left to test the law with"
    return "the law's floor lies at 0, the bound" if law.C == 0 else ""


def fit_many(
    points: np.ndarray, losses: np.ndarray, floored: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Amplitude, exponent, floor and squared error of the best law of every row; points in units of the largest x.

    ``points`` is (rows, points), or (1, points) where all rows share them. Not ``floored``: C is held at 0.
    """
    rows = np.arange(len(losses))
    lower = np.full(len(points), math.log(EXPONENTS[0]))
    upper = np.full(len(points), math.log(EXPONENTS[1]))
    steps = np.linspace(0, 1, 33)
    for _ in range(6):  # each pass narrows log B sixteenfold: 6.2 / 16**5 is below 1e-5
        exponents = np.exp(lower[:, None] + (upper - lower)[:, None] * steps)
        basis = np.exp(-exponents[:, :, None] * np.log(points)[:, None, :])
        amplitude, floor, error = _linear(basis, losses[:, None, :], floored)
        best = error.argmin(1)
        width = (upper - lower) / (len(steps) - 1)
        centre = lower + width * best
        lower, upper = np.maximum(lower, centre - width), np.minimum(upper, centre + width)
        if len(points) < len(losses):  # from here on each row looks around its own best
            points = np.broadcast_to(points, losses.shape)
    return (
        amplitude[rows, best],
        np.broadcast_to(exponents, error.shape)[rows, best],
        floor[rows, best],
        error[rows, best],
    )


def ratios(x: Sequence[float]) -> np.ndarray:
    return np.asarray(x, float) / float(max(x))


def mean(losses: Losses, seeds: Sequence[int] | set[int]) -> float:
    return float(np.mean([losses[seed] for seed in sorted(seeds)]))


def _linear(basis: np.ndarray, losses: np.ndarray, floored: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of losses on amplitude * basis + floor with both at least 0, over the last axis."""
    centre, level = _total(basis) / basis.shape[-1], _total(losses) / losses.shape[-1]
    apart = basis - centre[..., None]
    spread = _total(apart, apart)
    amplitude = _total(apart, losses - level[..., None]) / np.maximum(spread, 1e-300)
    floor = level - amplitude * centre
    through_zero = _total(basis, losses) / _total(basis, basis)
    sunk = (floor < 0) | (not floored)
    amplitude, floor = np.where(sunk, through_zero, amplitude), np.where(sunk, 0, floor)
    amplitude, floor = np.where(amplitude < 0, 0, amplitude), np.where(amplitude < 0, level, floor)
    missed = losses - amplitude[..., None] * basis - floor[..., None]
    error = _total(missed, missed)
    return amplitude, floor, error


def _total(*factors: np.ndarray) -> np.ndarray:
    """The product's sum over the last axis: a handful of points, where ``sum`` takes five times as long."""
    return np.einsum(",".join(["...i"] * len(factors)) + "->...", *factors)


def _pool(noise: Noise, misfit: np.ndarray, seeds: int) -> tuple[Noise | None, int, str]:
    """The residuals to draw from, how many to average per point, and what they are called."""
    if noise.freedom and seeds > 1:
        return noise, seeds, "seeds"
    freedom = len(misfit) - 3
    if freedom < 2:
        return None, 0, ""
    centred = misfit - misfit.mean()
    deviation = float(np.sqrt((centred**2).sum() / freedom))
    stretched = centred * math.sqrt(len(misfit) / freedom)
    return Noise(deviation, freedom, tuple(stretched.tolist())), 1, "fit"


def _bounds(x: Sequence[float], shaken: np.ndarray, level: float) -> dict[str, Law]:
    amplitude, exponent, floor, _ = fit_many(ratios(x)[None, :], shaken)
    drawn = np.column_stack([amplitude * max(x) ** exponent, exponent, floor])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0).tolist()
    return {"low": Law(*low), "high": Law(*high)}


def leave_one_out(x: Sequence[float], y: np.ndarray) -> dict:
    """`Fit.left_out` and `Fit.floors`, from 4 points on."""
    laws = [fit([*x[:i], *x[i + 1 :]], np.delete(y, i)) for i in range(len(x))]
    errors = tuple(law.loss(x[i]) - float(y[i]) for i, law in enumerate(laws))
    return {"left_out": errors, "floors": (min(law.C for law in laws), max(law.C for law in laws))}
