"""Weights of texts that are learned: settings of the testbeds, and what is measured beside the arms."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from palimpsest.config import MTS, Optimizer
from palimpsest.lake import Published
from training.selection import mts
from training.selection.target import Read
from training.testbeds.docs.arms import Bench, Row
from training.testbeds.docs.settings import MODEL, RATE, TRAINING, read
from training.testbeds.stage import Watch

NAMES = {"features": "MTS", "loss": "loss alone"}
"""Of arms, by what the network is told; the texts of a gradient stand behind."""
EARLY, STEPS, CONTEXT = 80, 80, 64
"""Steps without weights and with them, and tokens of a window of a text."""
TEXTS = (64, 256, 1024)
"""Of a gradient of the network, each an arm. The model's own batch is the same in all: what N alone is worth."""
HELD, BATCH = 128, 64
"""Texts of the target for a gradient, and of a step of the model."""
NETWORK_RATE = 1e-3
PATIENCE = 20
"""Alarms in a row: more than there are looks, so that what collapse costs is measured; they are counted."""


def settings(seed: int, texts: int, inputs: str = "features") -> MTS:
    """Of a seed and an arm."""
    sizes = {"early": EARLY, "steps": STEPS, "context": CONTEXT, "texts": texts, "held": HELD, "batch": BATCH}
    own = {"rate": NETWORK_RATE, "patience": PATIENCE, "seed": seed, "inputs": inputs}
    if inputs == "loss":
        own["floor"] = 0.0  # Meta-Weight-Net has none
    return MTS(model=MODEL, optimizer=Optimizer(lr=RATE), **sizes, **own)


def measure(bench: Bench, texts: Published, watch: Watch) -> None:
    """MTS: the arms, every look, and of each feature how well it tells clean texts and what its shuffling loses."""
    given = read(bench.pool, texts)
    for count in TEXTS:
        name, learned = arm(bench, given, watch, settings(bench.seed, count))
        own, carried = {"arm": name, "seed": bench.seed}, _carried(learned, bench.places, bench.clean)
        bench.tables.setdefault("carried", []).extend({**own, **row} for row in carried)
    bench.tables["features"] = [
        {"seed": bench.seed, "feature": name, "auroc": float(roc_auc_score(bench.clean, values[bench.places]))}
        for name, values in learned.columns.items()  # of the early steps, which are alike in all arms
    ]


def arm(bench: Bench, given: Read, watch: Watch, asked: MTS) -> tuple[str, mts.Learned]:
    """Its name, and what was learned; every look is in the tables."""
    name, places, found = f"{NAMES[asked.inputs]} {asked.texts}", bench.places, []

    def shown(weights: np.ndarray) -> dict[str, float]:
        own = weights[places] / weights[places].mean()
        return {f"mts/weight_{kind}": float(own[bench.kind == kind].mean()) for kind in bench.kinds}

    def score():
        with watch(name, asked.model_dump(mode="json")) as tell:
            found.append(mts.learn(bench.pool, given, asked, TRAINING, tell, shown))
        return mts.scores(bench.pool, found[0])

    bench.scored(name, score)
    own = {"arm": name, "seed": bench.seed}
    bench.tables.setdefault("trace", []).extend({**own, **row} for row in found[0].looks)
    return name, found[0]


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
