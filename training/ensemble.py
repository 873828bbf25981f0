"""``studies/<study>/ensembles/<mix>``: what the seeds of a mix are worth together.

An ensemble's probability of a token is the mean of its members'; its loss needs only their probabilities of the right
tokens, so one model at a time is in memory, and one number per held-out token. (The megadocs authors average the
members' log-probabilities and normalise again, which needs whole distributions; Kim et al. 2026, section 4.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published
from training import evaluate, export
from training.loop import choose_device, choose_precision

CODE = [f"training/{name}.py" for name in ("attention", "ensemble", "evaluate", "export", "loss", "model")]


def ensemble(study: Study, lake: Lake, *, tokens: Published, mix: str, members: Sequence[Published]) -> Published:
    """``losses.parquet``, a row per K = 1 .. members and held-out set: members, parameters, set, tokens, loss, alone.

    ``members`` are the mix's finished runs in the order they join; ``alone`` is the loss of the one that joined last,
    ``parameters`` those of all K together. Raises `LakeError` for fewer than two.
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
        rows, parameters = [], 0
        for count, (alone, together, size) in enumerate(_losses(members, held_out, training.precision), 1):
            parameters += size
            own, all_ = (evaluate.summarize(losses, held_out).losses for losses in (alone, together))
            rows += [
                {
                    "mix": mix,
                    "members": count,
                    "parameters": parameters,
                    "set": name,
                    "tokens": int(held_out.sets[name].sum()),
                    "loss": loss,
                    "alone": own[name],
                }
                for name, loss in all_.items()
                if loss is not None
            ]
        pq.write_table(pa.Table.from_pylist(rows), directory / "losses.parquet")
        last = {row["set"]: row["loss"] for row in rows if row["members"] == len(members)}
        return Facts(extra={"mix": mix, "members": [run.dataset.rsplit("/", 1)[1] for run in members], "losses": last})

    return lake.publish(
        f"studies/{study.name}/ensembles/{mix}",
        write,
        config={"context": training.context, "precision": training.precision},
        parents=[tokens, *members],
        code=CODE,
    )


def _losses(
    members: Sequence[Published], held_out: evaluate.HeldOut, precision: str
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """After each member: its losses, those of all so far, (tokens,) each in nats, and its parameters."""
    together = np.full(len(held_out.position), -np.inf)
    for count, run in enumerate(members, 1):
        alone, parameters = _member(run, held_out, precision)
        together = np.logaddexp(together, -alone)
        yield alone, np.log(count) - together, parameters


def _member(run: Published, held_out: evaluate.HeldOut, precision: str) -> tuple[np.ndarray, int]:
    device = choose_device()
    model = export.load(run.path / "model").to(device)
    losses = evaluate.token_losses(model, held_out, choose_precision(precision, device))
    return losses, model.parameter_counts()["total"]
