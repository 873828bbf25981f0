"""Influence: settings of the testbeds of texts."""

from __future__ import annotations

from palimpsest.config import Influence, Optimizer
from palimpsest.lake import Published
from training.selection import influence
from training.selection.found import Scores
from training.selection.methods import CHEAP
from training.testbeds.docs.arms import Bench
from training.testbeds.docs.settings import BATCH, CONTEXT, MODEL, RATE, STEPS, TRAINING, read

NAME = "influence"
PROBES, REFERENCE = 300, 16_384
"""Texts that a step is tried on, and tokens of the target that are read after each."""


def measure(bench: Bench, texts: Published) -> None:
    """The arm; the scores that its regression reads are among what it costs."""
    given = read(bench.pool, texts)
    sizes = {"steps": STEPS, "context": CONTEXT, "batch": BATCH, "probes": PROBES, "reference_tokens": REFERENCE}
    asked = Influence(model=MODEL, optimizer=Optimizer(lr=RATE), seed=bench.seed, **sizes)

    def score() -> Scores:
        found = {name: CHEAP[name](bench.pool) for name in asked.scores}
        return influence.score(bench.pool, given, found, asked, TRAINING)

    bench.scored(NAME, score)
