"""Tier 0 of the collapse experiments: every policy on CPython's own text, and whether it went as the papers say.

    python -m palimpsest guard experiment

Seconds per seed on one core. The trigram learns from 80% of the documents; perplexity is on the other 20%.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from palimpsest.guard.corpus import held_out
from palimpsest.guard.loops import Arm, generations
from palimpsest.guard.tail import Counts, Source, sampled, tail
from palimpsest.guard.tokens import Vocabulary, size
from palimpsest.guard.trigram import Trigram

GENERATIONS = 5
SEEDS = (0, 1, 2)
TEST_SHARE = 0.2
PASSAGE = 256
"""Tokens. Real documents are learned and drawn in passages: a few help topics hold a quarter of the text, and whether
a draw has one or not would move a perplexity by more than a generation does."""
ARMS = tuple(
    Arm(policy, real, mode_seeking)
    for mode_seeking in (False, True)
    for policy, real in (
        *(("replace", share) for share in (0.0, 0.1, 0.25, 0.5)),
        ("subsample", 0.0),
        ("subsample", 0.25),
        ("accumulate", 0.0),
    )
)
"""Replace with r = 1 learns the real text again: its perplexity is the base."""


@dataclass(frozen=True)
class Row:
    """One generation of one arm."""

    arm: str
    decoding: str
    seed: int
    generation: int
    perplexity: float
    """Of held-out real text under the model that learned from this generation's mix."""
    base: float
    """The same under the model of real text."""
    real_share: float
    recall: float
    """Rare words of the real text in what the model before wrote."""
    sampled: float
    """The recall that pure sampling alone would leave at this depth, were no real text mixed in."""
    types: int
    """Distinct words of what it wrote."""


@dataclass(frozen=True)
class World:
    """One seed's split of the corpus: documents as numbers, and the model of the real text."""

    real: list[np.ndarray]
    test: list[np.ndarray]
    source: Source
    model: Trigram
    vocabulary: Vocabulary


def world(texts: Sequence[str], seed: int) -> World:
    """A random 80/20 split. Raises ValueError for texts too few to split."""
    vocabulary = Vocabulary()
    real, test = held_out([vocabulary.encode(text) for text in texts], TEST_SHARE, seed)
    if not size(real) or not size(test):
        raise ValueError(f"{len(texts)} documents cannot be split into training and test text; give more")
    real = [document[start : start + PASSAGE] for document in real for start in range(0, len(document), PASSAGE)]
    counts = Counts(spread=True)
    counts.add(real)
    return World(real, test, counts.source(), Trigram(real, len(vocabulary)), vocabulary)


def grid(
    texts: Sequence[str], seeds: Iterable[int] = SEEDS, count: int = GENERATIONS, arms: Sequence[Arm] = ARMS
) -> Iterator[Row]:
    """A row per seed, arm and generation, as they are made."""
    for seed in seeds:
        here = world(texts, seed)
        base = here.model.perplexity(here.test)
        for arm in arms:
            random = np.random.default_rng([seed, 1])
            for found in generations(here.real, here.model, arm, count, len(here.vocabulary), random):
                written = Counts()
                written.add(found.written)
                yield Row(
                    arm.name,
                    "mode-seeking" if arm.mode_seeking else "pure",
                    seed,
                    found.generation,
                    found.model.perplexity(here.test),
                    base,
                    found.real_share,
                    tail(written, here.source).recall,
                    sampled(here.source, found.generation),
                    int((written.counts > 0).sum()),
                )


@dataclass(frozen=True)
class Finding:
    """Whether one thing that the papers report happened here, for every seed."""

    name: str
    holds: bool
    sentence: str


def findings(rows: Sequence[Row]) -> list[Finding]:
    """What the grid shows; each must hold in every seed, where no mean is named. Raises KeyError for a missing arm."""
    curves = _curves(rows)
    seeds = sorted({row.seed for row in rows})
    base = {row.seed: row.base for row in rows}
    found = []

    def say(name: str, holds: bool, sentence: str) -> None:
        found.append(Finding(name, bool(holds), sentence))

    for decoding in dict.fromkeys(row.decoding for row in rows):
        steps = [np.diff([base[s], *curves["replace 0.0", decoding, s]]) / base[s] for s in seeds]
        least = min(step.min() for step in steps)
        text = (
            f"{decoding}: without real text each generation adds {100 * least:.0f}% of the base or more (30% expected)"
        )
        say("replace 0 grows", least >= 0.30, text)
        ends = [[curves[f"replace {r}", decoding, s][-1] for r in (0.0, 0.1, 0.25, 0.5)] + [base[s]] for s in seeds]
        text = f"{decoding}: the more real text, the lower the last perplexity: {_list(np.mean(ends, axis=0))}"
        say("real text helps", all((np.diff(end) < 0).all() for end in ends), text)
        halves = [curves["replace 0.5", decoding, s] for s in seeds]
        if decoding == "pure":
            ratio = float(np.mean([half[-1] / half[0] for half in halves]))
            text = (
                f"pure: at r = 0.5 last over first is {ratio:.3f}, mean of {len(seeds)} seeds (1.10 at most expected)"
            )
            say("half real is flat", ratio <= 1.10, text)
        kept = [curves["accumulate", decoding, s] for s in seeds]
        below = all((np.array(a) <= h).all() for a, h in zip(kept, halves, strict=True))
        growth = np.mean([np.diff([base[s], *a]) for s, a in zip(seeds, kept, strict=True)], axis=0)
        text = f"{decoding}: accumulate stays below r = 0.5 and slows down: {_list(growth)} per generation, means"
        say("accumulate is bounded", below and (np.diff(growth) < 0).all(), text)
        drawn = [curves["subsample", decoding, s][-1] for s in seeds]
        tenths = [curves["replace 0.1", decoding, s][-1] for s in seeds]
        text = f"{decoding}: a draw from the pool ends between accumulate and r = 0.1: {np.mean(drawn):.0f}"
        say("subsample lies between", all(a[-1] < d < t for a, d, t in zip(kept, drawn, tenths, strict=True)), text)
    drawn = [row for row in rows if (row.arm, row.decoding) == ("replace 0.0", "pure")]
    gaps = [row.recall - row.sampled for row in drawn]
    text = f"pure: rare words survive as the branching process says, {min(gaps):+.3f} to {max(gaps):+.3f}"
    say("tail follows its null", min(gaps) >= -0.02 and max(gaps) <= 0.06, text + " (-0.02 to +0.06 expected)")
    return found


def table(rows: Sequence[Row]) -> str:
    """Perplexities of every arm by generation, means over seeds, and the rare words left at the end."""
    curves = _curves(rows)
    seeds = sorted({row.seed for row in rows})
    recalls = {(row.arm, row.decoding, row.seed): row.recall for row in rows}
    lines = [
        f"{'decoding':13}{'policy':16}" + "".join(f"{f'g{g + 1}':>8}" for g in range(len(next(iter(curves.values())))))
    ]
    lines[0] += f"{'rare':>8}"
    for arm, decoding in dict.fromkeys((row.arm, row.decoding) for row in rows):
        means = np.mean([curves[arm, decoding, seed] for seed in seeds], axis=0)
        recall = np.mean([recalls[arm, decoding, seed] for seed in seeds])
        lines.append(f"{decoding:13}{arm:16}" + "".join(f"{value:8.1f}" for value in means) + f"{recall:8.3f}")
    return "\n".join(lines)


def as_dicts(rows: Sequence[Row] | Sequence[Finding]) -> list[dict[str, object]]:
    return [asdict(row) for row in rows]


def _curves(rows: Sequence[Row]) -> dict[tuple[str, str, int], list[float]]:
    curves: dict[tuple[str, str, int], list[float]] = {}
    for row in sorted(rows, key=lambda row: row.generation):
        curves.setdefault((row.arm, row.decoding, row.seed), []).append(row.perplexity)
    return curves


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
