"""How many times its real tokens a mix is worth: a scaling law through the real-only runs, read off at the mix's loss.

The reference law is ``L(D) = A / D**B + C`` (A, B, C >= 0) over real tokens D. Data efficiency is ``D' / D`` with
``L(D') = loss of the mix`` (Kim et al. 2025, reused in the megadocs paper), D the mix's own real tokens. Reference
points may be smaller than D and larger: with larger ones D' is read off between points rather than beyond them.

**Interval.** A profile over the multiple, judged seed by seed (`training.analysis.profile`). Near the floor C the upper
end is open, as it should be. The interval holds under the law; beyond the largest D the law is an assumption.

**Without a law** (too few sizes, or a law that misses its own points) the real-only runs themselves bound D' wherever
more text always helped: it is more than the largest D whose loss lies above the mix's and less than the smallest whose
loss lies below it, each by more than the half width of its own paired interval. That assumes no shape, but seeds that
scatter normally, as all intervals here (simulated: of mixes worth exactly D, 5% get bounds that leave D out). Where the
seeds of one size fall into two heaps, for some leave a plateau and some do not, three of them err several times as
often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal

import numpy as np

from training.analysis import paired
from training.analysis.laws import (
    EXPONENTS,
    Law,
    Losses,
    Noise,
    block_noise,
    fit,
    fit_many,
    mean,
    misses,
    ratios,
    reservation,
)
from training.analysis.profile import MULTIPLIERS, interval

Verdict = Literal["reference", "resolved", "beyond floor", "bracketed", "not resolved"]


@dataclass(frozen=True)
class Reference:
    """The real-only recipe trained on ``tokens`` real tokens."""

    tokens: int
    losses: Losses


@dataclass(frozen=True)
class Efficiency:
    verdict: Verdict
    reason: str
    """Why it is not resolved, or bounded only, or what to bear in mind if it is."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """None: open, no bound found."""
    difference: float | None = None
    """Mean loss of the mix minus the real-only recipe's at the mix's D, over the seeds both have."""
    margin: float | None = None
    """Half width of that difference's interval."""
    seeds: int = 0
    extrapolated: bool = False
    """D' lies outside the real token counts the law was fitted on."""
    familywise: bool = False
    """The difference also stands with all the study's mixes compared at once (Bonferroni)."""
    without_floor: float | None = None
    """The value under a law whose floor C is 0: how much hangs on the shape."""
    left_out: tuple[float | None, float | None] | None = None
    """Smallest and largest value with one reference point left out, where 3 remain; None: no bound."""


@dataclass(frozen=True)
class Comparison:
    law: Law | None
    problem: str
    """Why there is no usable law; empty if there is one."""
    noise: Noise
    """Of the real-only recipe, over its points."""
    mixes: Mapping[str, Efficiency]


def compare(
    reference: Sequence[Reference],
    mixes: Mapping[str, Losses],
    level: float = 0.95,
    *,
    tokens: Mapping[str, int] | None = None,
) -> Comparison:
    """The law through the reference points and the data efficiency of every mix; a named verdict in every case.

    ``tokens`` is each mix's D, at which there must be a reference point; by default the largest.
    """
    reference = sorted(reference, key=lambda point: point.tokens)
    common = set.intersection(*(set(point.losses) for point in reference)) if reference else set()
    noise = block_noise([p.losses for p in reference], common)
    problem = _law_problem(reference, common, noise)
    law = None if problem else fit([p.tokens for p in reference], [mean(p.losses, common) for p in reference])
    measured = {
        name: _efficiency(
            reference,
            (tokens or {}).get(name, reference[-1].tokens if reference else 0),
            losses,
            sorted(common & set(losses)),
            problem,
            level,
            len(mixes),
        )
        for name, losses in mixes.items()
    }
    return Comparison(law, problem, noise, measured)


def _law_problem(reference: Sequence[Reference], seeds: set[int], noise: Noise) -> str:
    tokens = [point.tokens for point in reference]
    if len(set(tokens)) < 3:
        return (
            f"a law needs real-only runs at 3 or more token counts, found {len(set(tokens))}; "
            "add training.reference_shares"
        )
    if not seeds:
        return "the real-only runs have no seed in common, so their losses cannot be compared"
    means = [mean(point.losses, seeds) for point in reference]
    if not np.isfinite(means).all():
        return "a real-only run has no finite loss"
    if any(later >= earlier for earlier, later in pairwise(means)):
        return "the real-only loss does not fall with every increase of real tokens, so no law can be read off it"
    law = fit(tokens, means)
    if not EXPONENTS[0] * 1.01 < law.B < EXPONENTS[1] * 0.99:
        return f"the fitted exponent runs to the edge of its range ({law.B:.2g}), so the law is not identified"
    return misses(law, tokens, means, noise, len(seeds))


def _efficiency(
    reference: Sequence[Reference],
    own: int,
    losses: Losses,
    seeds: list[int],
    problem: str,
    level: float,
    of: int,
) -> Efficiency:
    if not reference or not seeds:
        return Efficiency("not resolved", problem or "no seed was run for both this mix and the real-only recipe")
    base = next((point for point in reference if point.tokens == own), None)
    if base is None:
        reason = f"the real-only recipe was not run on this mix's {own:,} real tokens; add training.reference_shares"
        return Efficiency("not resolved", reason, seeds=len(seeds))
    by_seed = [losses[seed] - base.losses[seed] for seed in seeds]
    difference = fmean(by_seed)
    if not math.isfinite(difference):
        return Efficiency("not resolved", "a run of this mix has no finite loss", seeds=len(seeds))
    margin, strict = paired.half_width(by_seed, level), paired.half_width(by_seed, 1 - (1 - level) / of)
    facts = {"difference": difference, "margin": margin, "seeds": len(seeds)}
    facts["familywise"] = strict is not None and abs(difference) > strict
    if problem:
        low, high = _bracket(reference, own, losses, seeds, level)
        facts |= {"low": low, "high": high}
        if (low is not None and low >= 1) or (high is not None and high <= 1):
            return Efficiency("bracketed", problem, **facts)
        return Efficiency("not resolved", problem, **facts)

    means, loss = [mean(point.losses, seeds) for point in reference], mean(losses, seeds)
    sizes = np.array([point.tokens / own for point in reference])
    law = fit(sizes, means)
    held = [said for said in (reservation(law, sizes, means),) if said]
    value = law.tokens(loss)
    finite = value if value < MULTIPLIERS[1] else None
    inside = sizes[0] <= value <= sizes[-1]
    facts |= {"value": finite, "extrapolated": not inside, **_sensitivity(sizes, means, loss)}
    if len(seeds) < 2 or margin is None:
        return Efficiency("not resolved", "one seed cannot tell a difference from seed noise; use 2 or more", **facts)
    by_size = np.array([[point.losses[seed] for seed in seeds] for point in reference])
    low, high = interval(sizes, by_size, np.array([losses[seed] for seed in seeds]), value, level)
    facts |= {"low": low, "high": high}
    if abs(difference) <= margin:
        reason = f"the loss difference to real-only, {difference:+.4f} ± {margin:.4f} nats, includes 0"
        return Efficiency("not resolved", reason, **facts)
    if (low is None or low <= 1) and (high is None or high >= 1):
        return Efficiency("not resolved", "the interval of the efficiency includes 1", **facts)
    if finite is None:
        reason = f"the loss lies at or below the law's floor of {law.C:.3f} nats: only a lower bound can be given"
        return Efficiency("beyond floor", "; ".join([reason, *held]), **facts)
    if facts["extrapolated"]:
        above = value > sizes[-1]
        end = f"{value / sizes[-1]:.2f} times the largest" if above else f"{value / sizes[0]:.2f} times the smallest"
        held = [f"extrapolated to {end} real-only run", *held]
    return Efficiency("resolved", "; ".join(held), **facts)


def _bracket(
    reference: Sequence[Reference], own: int, losses: Losses, seeds: list[int], level: float
) -> tuple[float | None, float | None]:
    """Multiples of D between which D' lies by the real-only runs alone; None: no bound, as where more text did harm."""
    means = [mean(point.losses, seeds) for point in reference]
    falls = all(later < earlier for earlier, later in pairwise(means))
    if len(means) < 2 or not falls or not np.isfinite(means).all():
        return None, None
    low = high = None
    for point in reference:
        above = [point.losses[seed] - losses[seed] for seed in seeds]
        margin = paired.half_width(above, level)
        if margin is None:
            return None, None
        if fmean(above) > margin:
            low = point.tokens / own
        elif fmean(above) < -margin and high is None:
            high = point.tokens / own
    return low, high


def _sensitivity(sizes: np.ndarray, means: Sequence[float], loss: float) -> dict:
    """What the value hangs on: the shape (no floor), and single reference points (each left out, where 3 remain)."""
    scale = sizes.max()
    amplitude, exponent, floor, _ = fit_many(ratios(sizes)[None, :], np.array([means]), floored=False)
    bare = Law(float(amplitude[0]), float(exponent[0]), float(floor[0]))
    found = {"without_floor": _bounded(scale * bare.tokens(loss))}
    if len(sizes) > 3:
        rest = [[i for i in range(len(sizes)) if i != out] for out in range(len(sizes))]
        values = [fit(sizes[keep], [means[i] for i in keep]).tokens(loss) for keep in rest]
        found["left_out"] = (_bounded(min(values)), _bounded(max(values)))
    return found


def _bounded(value: float) -> float | None:
    return value if value < MULTIPLIERS[1] else None
