"""Baselines of learned weights, on texts: the loss alone (Meta-Weight-Net), and Learning to Reweight."""

from __future__ import annotations

from palimpsest.lake import Published
from training.testbeds.docs import learned, reweighted, settings
from training.testbeds.docs.arms import Bench
from training.testbeds.stage import Watch

REWEIGHTED = "Learning to Reweight"


def measure(bench: Bench, texts: Published, watch: Watch) -> None:
    """The arms, and every look of those that have a network."""
    given = settings.read(bench.pool, texts)
    for count in learned.TEXTS:
        learned.arm(bench, given, watch, learned.settings(bench.seed, count, "loss"))
    asked = learned.settings(bench.seed, reweighted.TEXTS)
    bench.scored(REWEIGHTED, lambda: reweighted.score(bench.pool, given, asked))
