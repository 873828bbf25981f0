"""Weights of documentation that are learned: settings of the testbed, and what is measured beside the arm."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from palimpsest import tokenizer
from palimpsest.config import MTS, Optimizer
from palimpsest.lake import Published
from training.selection import mts, target
from training.testbeds.docs.arms import Bench, Row
from training.testbeds.docs.settings import MODEL, RATE, TRAINING

NAME = "MTS"
EARLY, STEPS, CONTEXT = 80, 80, 64
"""Steps without weights and with them, and tokens of a window of a text."""
TEXTS, HELD, BATCH = 128, 64, 64
"""Texts of a gradient of the network, of the target for it, and of a step of the model."""
PATIENCE = 20
"""Alarms in a row: more than there are looks, so that what collapse costs is measured; they are counted."""


def settings(seed: int) -> MTS:
    """Of a seed."""
    sizes = {"early": EARLY, "steps": STEPS, "context": CONTEXT, "texts": TEXTS, "held": HELD, "batch": BATCH}
    return MTS(model=MODEL, optimizer=Optimizer(lr=RATE), patience=PATIENCE, seed=seed, **sizes)


def measure(bench: Bench, texts: Published, watch) -> None:
    """The arm, every look, and of each feature how well it tells clean texts and what its shuffling loses."""
    pool, places, clean = bench.pool, bench.places, bench.kind == "clean"
    given = target.read(pool, tokenizer.load(texts.file("tokenizer.json")), every_real=True)
    asked, found = settings(bench.seed), []

    def shown(weights: np.ndarray) -> dict[str, float]:
        own = weights[places] / weights[places].mean()
        return {f"mts/weight_{kind}": float(own[bench.kind == kind].mean()) for kind in bench.kinds}

    def score():
        with watch(NAME, asked.model_dump(mode="json")) as tell:
            found.append(mts.learn(pool, given, asked, TRAINING, tell, shown))
        return mts.scores(pool, found[0])

    bench.scored(NAME, score)
    learned, own = found[0], {"arm": NAME, "seed": bench.seed}
    bench.tables["trace"] = [{**own, **row} for row in learned.looks]
    bench.tables["features"] = [
        {"seed": bench.seed, "feature": name, "auroc": float(roc_auc_score(clean, values[places]))}
        for name, values in learned.columns.items()
    ]
    bench.tables["carried"] = [{**own, **row} for row in _carried(learned, places, clean)]


@torch.no_grad()
def _carried(learned: mts.Learned, places: np.ndarray, clean: np.ndarray) -> list[Row]:
    network, inputs, rng = learned.own.network, learned.own.known[places], np.random.default_rng(26)

    def auroc(given: torch.Tensor) -> float:
        return float(roc_auc_score(clean, network(given).cpu().numpy()))

    rows, whole = [], auroc(inputs)
    for name in learned.columns:
        shuffled, column = inputs.clone(), learned.names.index(name)
        shuffled[:, column] = inputs[rng.permutation(len(inputs)), column]
        rows.append({"feature": name, "lost": whole - auroc(shuffled)})
    return rows
