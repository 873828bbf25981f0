"""``studies/<study>/ensembles/<mix>``: what the seeds of a mix are worth together.

An ensemble's probability of a token is the mean of its members'; its loss needs only their probabilities of the right
tokens, so one model at a time is in memory, and one number per member and held-out token. (The megadocs authors average
the members' log-probabilities and normalise again, which needs whole distributions; Kim et al. 2026, section 4.)
Every choice of members is judged, not one chain of them: what an ensemble of K is worth should not hang on the order of
the seeds, and only so can it be said how far it hangs on the members (`training.analysis.ensembles`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published
from training import evaluate, export
from training.loop import choose_device, choose_precision

MOST = 252
"""Choices of K members that are judged: all of up to ten members, of more so many by lot."""
CODE = [f"training/{name}.py" for name in ("attention", "ensemble", "evaluate", "export", "loss", "model")]


def ensemble(study: Study, lake: Lake, *, tokens: Published, mix: str, members: Sequence[Published]) -> Published:
    """``losses.parquet``, a row per choice of members and held-out set: members, runs, parameters, set, tokens, loss.

    ``members`` is their number and ``runs`` their names, ``parameters`` those of all of them together. Raises
    `LakeError` for fewer than two.
    """
    if len(members) < 2:
        raise LakeError(
            f"judging.ensembles: mix '{mix}' has {len(members)} run(s), an ensemble takes two; "
            "add a seed to training.seeds"
        )
    training = study.training_of(mix)

    def write(directory: Path) -> Facts:
        torch.set_num_threads(training.threads)
        held_out = evaluate.load(
            tokens.file("validation.bin"),
            tokens.file("validation.index.parquet"),
            dtype=tokens.extra["dtype"],
            boundary=tokens.extra["boundary"],
            context=training.context,
        )
        found = [_member(run, held_out, training.precision) for run in members]
        losses, names = np.stack([own for own, _ in found]), [run.dataset.rsplit("/", 1)[1] for run in members]
        rows = []
        for chosen in choices(len(members)):
            together = np.log(len(chosen)) - np.logaddexp.reduce(-losses[list(chosen)], axis=0)
            facts = {"members": len(chosen), "runs": [names[place] for place in chosen]}
            facts["parameters"] = sum(found[place][1] for place in chosen)
            rows += [
                {"mix": mix, **facts, "set": name, "tokens": int(own.sum()), "loss": float(together[own].mean())}
                for name, own in held_out.sets.items()
                if own.any()
            ]
        pq.write_table(pa.Table.from_pylist(rows), directory / "losses.parquet")
        last = {row["set"]: row["loss"] for row in rows if row["members"] == len(members)}
        return Facts(extra={"mix": mix, "members": names, "losses": last})

    return lake.publish(
        f"studies/{study.name}/ensembles/{mix}",
        write,
        config={"context": training.context, "precision": training.precision},
        parents=[tokens, *members],
        code=CODE,
    )


def choices(count: int) -> Iterator[tuple[int, ...]]:
    """Every choice of 1, 2, ... of so many members; where one size has more than `MOST`, so many of them by lot."""
    for size in range(1, count + 1):
        every = list(combinations(range(count), size))
        yield from every if len(every) <= MOST else sorted(random.Random(size).sample(every, MOST))


def _member(run: Published, held_out: evaluate.HeldOut, precision: str) -> tuple[np.ndarray, int]:
    """Its losses, (tokens,) in nats, and its parameters."""
    device = choose_device()
    model = export.load(run.path / "model").to(device)
    losses = evaluate.token_losses(model, held_out, choose_precision(precision, device))
    return losses, model.parameter_counts()["total"]
