"""What the rounds of tier 0 show: whether it went as the papers say, and the table of perplexities.

The bounds are those that were measured beforehand on the same corpus with a word trigram; where a paper's own figure is
for a neural model (temperature), it is asked of the trigram as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.guard.experiment import COLD, SHARES, Row

FIXED = tuple(f"replace {share}" for share in SHARES)
NEW = "continual "


@dataclass(frozen=True)
class Finding:
    """Whether one thing that the papers report happened here, for every seed."""

    name: str
    decoding: str
    holds: bool
    sentence: str


def findings(rows: Sequence[Row]) -> list[Finding]:
    """What the grid shows; each must hold in every seed, where no mean is named. Raises KeyError for a missing arm."""
    found = []
    for decoding in dict.fromkeys(row.decoding for row in rows):
        own = [row for row in rows if row.decoding == decoding]
        found += _of_policies(own, decoding)
        if any(row.arm.startswith(NEW) for row in own):
            found += _continual(own, decoding)
    pure = [row for row in rows if (row.arm, row.decoding) == ("replace 0.0", "pure")]
    gaps = [row.recall - row.sampled for row in pure]
    text = f"pure: rare words survive as the branching process says, {min(gaps):+.3f} to {max(gaps):+.3f}"
    text += " (-0.02 to +0.06 expected)"
    return [*found, Finding("tail follows its null", "pure", min(gaps) >= -0.02 and max(gaps) <= 0.06, text)]


def _of_policies(rows: Sequence[Row], decoding: str) -> list[Finding]:
    found: list[Finding] = []
    base = {row.seed: row.base for row in rows if not row.arm.startswith(NEW)}
    of = curves(rows)

    def say(name: str, holds: bool, sentence: str) -> None:
        found.append(Finding(name, decoding, bool(holds), f"{decoding}: {sentence}"))

    def each(arm: str) -> list[np.ndarray]:
        return [of[arm, decoding, seed] for seed in base]

    alone, halves, kept = each("replace 0.0"), each("replace 0.5"), each("accumulate")
    least = min((np.diff([b, *a]) / b).min() for b, a in zip(base.values(), alone, strict=True))
    text = f"without real text each generation adds {100 * least:.0f}% of the base or more (30% expected)"
    say("replace 0 grows", least >= 0.30, text)
    ends = np.array([[curve[-1] for curve in each(arm)] for arm in FIXED])
    text = f"the more real text, the lower the last perplexity: {_list(ends.mean(axis=1))}"
    say("real text helps", (np.diff(ends, axis=0) < 0).all(), text)
    drift = max(abs(curve / b - 1).max() for b, curve in zip(base.values(), each("replace 1.0"), strict=True))
    say("all real stays", drift < 1e-9, f"at r = 1 perplexity stays the base, {np.mean(list(base.values())):.1f}")
    if decoding == "pure":
        ratio = float(np.mean([half[-1] / half[0] for half in halves]))
        text = f"at r = 0.5 last over first is {ratio:.3f}, mean of {len(base)} seeds (1.10 at most expected)"
        say("half real is flat", ratio <= 1.10, text)
    below = all((a <= h).all() for a, h in zip(kept, halves, strict=True))
    growth = np.mean([np.diff([b, *a]) for b, a in zip(base.values(), kept, strict=True)], axis=0)
    cold = decoding == f"T = {COLD:g}"
    slower = np.diff(growth[1:] if cold else growth) < 0  # a cold model's first text is still near the real one's
    text = f"accumulate stays below r = 0.5 and slows down{' from the second generation on' * cold}: "
    say("accumulate is bounded", below and slower.all(), f"{text}{_list(growth)} per generation, means")
    drawn, tenths = each("subsample"), each("replace 0.1")
    text = f"a draw from the pool ends between accumulate and r = 0.1: {np.mean([d[-1] for d in drawn]):.0f}"
    between = all(a[-1] < d[-1] < t[-1] for a, d, t in zip(kept, drawn, tenths, strict=True))
    say("subsample lies between", between, text)
    if cold:
        third = [curve[2] / b for b, curve in zip(base.values(), alone, strict=True)]
        text = f"without real text the third perplexity is {min(third):,.0f} times the base or more (10 expected)"
        say("a low temperature ruins", min(third) >= 10, text)
    return found


def _continual(rows: Sequence[Row], decoding: str) -> list[Finding]:
    """What new real text in every round changes; perplexities over those of each round's real text alone."""
    times = curves(rows, over_base=True)
    seeds = sorted({seed for _, _, seed in times})

    def each(arm: str) -> np.ndarray:
        return np.array([times[NEW + arm, decoding, seed] for seed in seeds])

    alone, halves, kept = each("replace 0.0"), each("replace 0.5"), each("accumulate")
    flat = float((halves[:, -1] / halves[:, 0]).mean())
    return [
        Finding(
            "continual: half real is flat",
            decoding,
            flat <= 1.10 and bool((halves[:, -1] < alone[:, -1]).all()),
            f"{decoding}, new real text every round: at r = 0.5 the first round has {halves[:, 0].mean():.2f} times "
            f"the perplexity of its real text alone, the last {halves[:, -1].mean():.2f} times; at r = 0 the last has "
            f"{alone[:, -1].mean():.1f} times",
        ),
        Finding(
            "continual: accumulate gains",
            decoding,
            bool((kept[:, -1] < 1).all() and (kept[:, -1] < kept[:, 0]).all()),
            f"{decoding}, new real text every round: what was ever written beside it carries the earlier rounds' text, "
            f"and brings the last round to {kept[:, -1].mean():.2f} times its real text alone",
        ),
    ]


def table(rows: Sequence[Row]) -> str:
    """Perplexities of every arm by generation, means over seeds, and the rare words left at the end."""
    rounds = max(row.generation for row in rows)
    lines = [f"{'decoding':13}{'policy':24}" + "".join(f"{f'g{g + 1}':>10}" for g in range(rounds)) + f"{'rare':>8}"]
    for arm, decoding, means, recall in averages(rows):
        rare = f"{'':8}" if recall is None else f"{recall:8.3f}"
        lines.append(f"{decoding:13}{arm:24}" + "".join(f"{value:10,.1f}" for value in means) + rare)
    return "\n".join(lines)


def averages(rows: Sequence[Row]) -> list[tuple[str, str, np.ndarray, float | None]]:
    """Arm, decoding, perplexities by generation and rare words of the last one: means over seeds."""
    of, found = curves(rows), []
    last = max(row.generation for row in rows)
    for arm, decoding in dict.fromkeys((row.arm, row.decoding) for row in rows):
        own = [row for row in rows if (row.arm, row.decoding) == (arm, decoding)]
        recalls = [row.recall for row in own if row.generation == last and row.recall is not None]
        means = np.mean([of[arm, decoding, seed] for seed in sorted({row.seed for row in own})], axis=0)
        found.append((arm, decoding, means, float(np.mean(recalls)) if recalls else None))
    return found


def curves(rows: Sequence[Row], *, over_base: bool = False) -> dict[tuple[str, str, int], np.ndarray]:
    """Perplexities (or their multiples of the base) by arm, decoding and seed, in the order of generations."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in sorted(rows, key=lambda row: row.generation):
        value = row.perplexity / row.base if over_base else row.perplexity
        found.setdefault((row.arm, row.decoding, row.seed), []).append(value)
    return {key: np.array(curve) for key, curve in found.items()}


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in values)
