"""What texts of each kind bring to a learner that has some clean ones: how grades are measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palimpsest.guard.trigram import Trigram
from training.testbeds.docs.arms import Bench, Row


def measure(bench: Bench) -> list[Row]:
    """Of each kind the fall of the test's perplexity that its texts bring to half of the clean ones, as a share of the
    fall that as many other clean texts bring: 1 for text as good as clean, below 0 for text that does harm.

    Clean is what is vouched for, where the pool has nothing clean.
    """
    texts = {kind: [bench.encoded[place] for place in np.flatnonzero(bench.kind == kind)] for kind in bench.kinds}
    clean = texts.pop("clean", None) or [
        bench.vocabulary.encode(text.text) for part in bench.pool.batches("real") for text in part
    ]
    half = len(clean) // 2
    start, texts["clean"] = clean[:half], clean[half:]
    count = min(map(len, texts.values()))

    def perplexity(added: Sequence[np.ndarray]) -> float:
        return Trigram([*start, *added], bench.types).perplexity(bench.test)

    found = {kind: perplexity(own[:count]) for kind, own in texts.items()}
    base = perplexity([])
    fall = base - found["clean"]
    return [{"seed": bench.seed, "kind": kind, "worth": (base - own) / fall} for kind, own in found.items()]
