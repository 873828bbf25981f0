"""What is measured of a seed of digits, part by part."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.lake import Lake, Published
from training.testbeds.stage import Part, Tables, Testbed, watch

CODE = ("training/meta", "training/testbeds/digits")
ABOUT = "Which ways to select find good digits among bad ones: weights learned by MTS, and simpler ways."


def _quality(seed: int) -> Tables:
    from training.testbeds.digits import data, features, quality

    drawn = data.draw(seed)
    return {"quality": quality.measure(drawn, features.position(drawn), features.dynamics(drawn, seed), seed)}


def _noise(seed: int) -> Tables:
    from training.testbeds.digits import arms, data, noise

    drawn = data.draw(seed)
    return {"noise": noise.measure(drawn, arms.known_of(drawn, seed)[0], seed)}


def _simple(seed: int) -> Tables:
    bench = _bench(seed)
    bench.simple()
    return bench.tables


def _learned(seed: int) -> Tables:
    from training.testbeds.digits import arms

    bench = _bench(seed)
    bench.learn(arms.ASKED, watch("digits", ABOUT, seed))
    return bench.tables


def _batches(seed: int) -> Tables:
    from training.testbeds.digits import arms

    bench = _bench(seed)
    bench.learn(arms.OTHERS, watch("digits", ABOUT, seed))
    return bench.tables


def _bench(seed: int):
    from training.testbeds.digits import arms, data

    drawn = data.draw(seed)
    return arms.Bench(drawn, *arms.known_of(drawn, seed), seed)


def _report(lake: Lake, published: Sequence[Published], missing: str) -> Published:
    from training.analysis.testbed_digits import report

    return report(lake, published, missing)


TESTBED = Testbed(
    "digits",
    ABOUT,
    {
        name: Part(measure, CODE)
        for name, measure in {
            "quality": _quality,
            "noise": _noise,
            "simple": _simple,
            "learned": _learned,
            "batches": _batches,
        }.items()
    },
    _report,
)
