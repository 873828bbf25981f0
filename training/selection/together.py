"""MTS in several processes of one machine (``training.processes`` of the study): each has its part of every batch.

Weights are normalized over all of them (`training.meta.hypergradient`), so that the network learns from a batch as
large as all processes together can hold; the scores are those of one process but for rounding, which AdamW spreads.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from palimpsest import tokenizer
from palimpsest.config import Study
from palimpsest.lake import Lake
from training.nodes import Nodes
from training.selection import mts, target
from training.selection.found import Scores
from training.selection.pool import Pool
from training.workers import Sender, Work, tell, worker

FEATURE = "feature "
"""What the names of features begin with among the arrays that the first process leaves."""


class _Metrics:
    """Of the run that the looks go to."""

    def __init__(self, log_metrics: mts.Tell) -> None:
        self.log_metrics = log_metrics


def score(pool: Pool, study: Study, log_metrics: mts.Tell) -> Scores:
    """As `training.selection.mts.score`.

    Raises what a process raised, by its family; `ConnectionError` where one was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.npz"
        order = {
            "study": study.model_dump(mode="json", exclude_unset=True),
            "parents": [[one.lake.root, one.ref] for one in (pool.split, pool.generations)],
            "file": str(file),
        }
        work = Work("selection by mts", __name__, order, study.training.threads, "it starts anew when tried again")
        told = work.done(Nodes(), study.training.processes, tracker=_Metrics(log_metrics))
        with np.load(file) as found:
            columns = {name.removeprefix(FEATURE): found[name] for name in found.files if name.startswith(FEATURE)}
            return Scores(found["score"], found["weight"], columns, told["figures"], flops=told["flops"])


def _work(file: str) -> None:
    """One of the processes."""
    with worker() as group:
        order = json.loads(Path(file).read_text(encoding="utf-8"))
        study = Study.model_validate(order["study"])
        split, generations = (Lake(root).open(ref["uri"], ref["digest"]) for root, ref in order["parents"])
        pool, asked = Pool(split, generations), study.selection.mts
        read = target.read(pool, tokenizer.load(split.file("tokenizer.json")))
        first = group.rank == 0
        own = mts.learn(pool, read, asked, study.training, Sender().log_metrics if first else None, group=group)
        if first:
            found = mts.scores(pool, own)
            columns = {f"{FEATURE}{name}": values for name, values in found.features.items()}
            np.savez(order["file"], score=found.score, weight=found.weight, **columns)
            tell({"facts": {"figures": dict(found.figures), "flops": found.flops}})


if __name__ == "__main__":
    _work(sys.argv[1])
