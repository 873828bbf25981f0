"""MTS in several processes of one machine (``training.processes`` of the study): each has its part of every batch.

Weights are normalized over all of them (`training.meta.hypergradient`), so that the network learns from a batch as
large as all processes together can hold; the scores are those of one process but for rounding, which AdamW spreads.
Where PALIMPSEST_NODES divides the processes over machines, those of this one do it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from palimpsest import tokenizer
from palimpsest.config import Study
from palimpsest.lake import Lake
from training.loop import Tracker
from training.nodes import Nodes
from training.selection import mts, target
from training.selection.found import Scores
from training.selection.pool import Pool
from training.workers import Sender, Work, tell, worker

FEATURE = "feature "
"""What the names of features begin with among the arrays that the first process leaves."""


def processes(study: Study) -> int:
    """Of this machine. Raises `ConfigError` where they do not divide evenly over the machines, ValueError where a batch
    has not a text for each.
    """
    share, asked = Nodes.from_env().share(study.training.processes), study.selection.mts
    for name in ("batch", "texts", "held"):
        if getattr(asked, name) < share:
            raise ValueError(
                f"{name} {getattr(asked, name)} of selection.mts is not a text for each of {share} processes"
            )
    return share


def score(pool: Pool, study: Study, share: int, tracker: Tracker) -> Scores:
    """As `training.selection.mts.score`, in so many processes.

    Raises what a process raised, by its family; `ConnectionError` where one was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.npz"
        order = {
            "study": study.model_dump(mode="json", exclude_unset=True),
            "parents": [[one.lake.root, one.ref] for one in (pool.split, pool.generations)],
            "file": str(file),
        }
        work = Work(
            "selection by mts",
            __name__,
            order,
            study.training.threads,
            less="texts or batch of selection.mts",
            again="it starts anew when tried again",
        )
        told = work.run(Nodes(), share, tracker=tracker)
        with np.load(file) as found:
            columns = {name.removeprefix(FEATURE): found[name] for name in found.files if name.startswith(FEATURE)}
            paid = {"cpu_seconds": told["cpu_seconds"]}
            return Scores(found["score"], found["weight"], columns, told["figures"], flops=told["flops"], paid=paid)


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
        spent = group.sum(torch.tensor(time.process_time(), device=own.own.learner.device))
        if first:
            found = mts.scores(pool, own)
            columns = {f"{FEATURE}{name}": values for name, values in found.features.items()}
            np.savez(order["file"], score=found.score, weight=found.weight, **columns)
            figures = dict(found.figures) | {"processes": float(group.world)}
            tell({"facts": {"figures": figures, "flops": found.flops, "cpu_seconds": float(spent)}})


if __name__ == "__main__":
    _work(sys.argv[1])
