"""Interval of a data efficiency: the multiples of D at which one law still fits the real-only runs and the mix.

The mix joins the reference points at ``m * D`` tokens and the law is fitted again. By how much the squared error then
rises is the distance of the mix's loss from what the law says there, squared, over ``1 + sum(w**2)``: to first order
that law is a weighted sum of the reference's losses, with weights w (a row of the least-squares hat matrix). How large
that distance may be is said by the seeds, as of every other difference (`training.analysis.paired`): it is one figure
per seed, the mix's loss less the same weighted sum of that seed's reference losses, and m belongs to the 95% interval
where its mean over the seeds is within t standard errors, t with seeds - 1 degrees of freedom. So mix and reference may
scatter as unequally as they like, and what a seed does to all of them alike drops out.

Over 240 intervals each, with three seeds and planted multipliers of 0.7 to 2.5, it covers 95 and 96% where all runs
scatter alike, 96% where mixes scatter four times as much as the reference, 98% where the reference does. (What stood
here before took the wider of two half widths and covered 97 to 99.6%, under the same label.) With two seeds, 99%: t is
12.7 and most intervals are open.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from training.analysis.laws import EXPONENTS, fit_many

MULTIPLIERS = (0.01, 100.0)
"""Efficiencies considered; an interval that reaches an end of this range is open there."""


def interval(
    sizes: np.ndarray, losses: np.ndarray, own: np.ndarray, value: float, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Lowest and highest multiple; None: open.

    ``sizes`` are the reference points in multiples of D, ``losses`` (points, seeds) theirs, ``own`` (seeds,) those of
    the mix, ``value`` the multiple read off the law.
    """
    t = float(stdtrit(len(own) - 1, (1 + level) / 2))
    centre = min(max(value, MULTIPLIERS[0]), MULTIPLIERS[1])
    best = _errors(sizes, losses, own, np.array([centre]), t)[0][0]

    def edge(end: float) -> float | None:
        inner, outer = centre, end
        for _ in range(2):  # two passes of 32 steps over at most four decades: 1% wide
            grid = np.geomspace(inner, outer, 33)
            error, allowed = _errors(sizes, losses, own, grid, t)
            last = np.flatnonzero(error <= best + allowed).max(initial=0)
            if last == len(grid) - 1:
                return None
            inner, outer = grid[last], grid[last + 1]
        return float(outer)

    return edge(MULTIPLIERS[0]), edge(MULTIPLIERS[1])


def _errors(
    sizes: np.ndarray, losses: np.ndarray, own: np.ndarray, multiples: np.ndarray, t: float
) -> tuple[np.ndarray, np.ndarray]:
    """Squared error of the law through reference and mix at each multiple, and by how much seeds let it rise there."""
    points = np.column_stack([np.broadcast_to(sizes, (len(multiples), len(sizes))), multiples])
    means = np.append(losses.mean(1), own.mean())
    amplitude, exponent, floor, error = fit_many(points, np.broadcast_to(means, points.shape))
    weights = _weights(points, amplitude, exponent, floor)
    by_seed = own - weights @ losses
    return error, t**2 * by_seed.var(1, ddof=1) / len(own) / (1 + (weights**2).sum(1))


def _weights(points: np.ndarray, amplitude: np.ndarray, exponent: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """(rows, points - 1): of each point on what the law through them says at the last; a bound is no free parameter."""
    power = np.exp(-exponent[:, None] * np.log(points))
    free = (EXPONENTS[0] * 1.01 < exponent) & (exponent < EXPONENTS[1] * 0.99)
    slope = np.where(free[:, None], -amplitude[:, None] * power * np.log(points), 0.0)
    level = np.broadcast_to((floor > 0)[:, None], power.shape).astype(float)
    jacobian = np.stack([power, slope, level], -1)
    return np.einsum("rk,rkp->rp", jacobian[:, -1], np.linalg.pinv(jacobian[:, :-1], rcond=1e-10))
