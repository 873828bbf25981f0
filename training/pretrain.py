"""One pre-training run: seeded, mixed as planned, evaluated as it goes, published whole or not at all.

A run that is cut off starts over; nothing half-done is ever published.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published
from training import data, evaluate
from training.evaluate import SETS
from training.export import export
from training.loop import TRACKED_POINTS, Progress, Tracker, choose_device, choose_precision, fit
from training.model import Decoder

CODE = [f"training/{name}.py" for name in ("data", "model", "optim", "loop", "pretrain", "evaluate", "export")]
log = logging.getLogger(__name__)


def plan_runs(study: Study, mixes: Published) -> list[dict]:
    """Every run of the study, one JSON-able dict per (recipe, seed), the longest first.

    ``streams`` lists the real stream first, then the synthetic one; ``f`` is the synthetic share.
    """
    rows = pq.read_table(mixes.file("mixes.parquet")).to_pylist()
    recipes: dict[str, list[dict]] = {}
    for row in rows:
        recipes.setdefault(row["recipe"], []).append(row)
    runs = [_run(study, recipe, found, seed) for recipe, found in recipes.items() for seed in study.training.seeds]
    return sorted(runs, key=lambda run: (-run["steps"], run["run"]))


def _run(study: Study, recipe: str, rows: list[dict], seed: int) -> dict:
    rows = sorted(rows, key=lambda row: row["layout"] != study.real_layout)
    real, synthetic = rows[0], rows[1:]
    f = sum(row["fraction"] for row in synthetic)
    expected = data.sequences_per_stream(real["steps"], study.training.batch, study.training.block, f)
    if real["steps"] < 1:
        raise LakeError(
            f"recipe {recipe}: not one step of {study.training.batch} windows of {study.training.context} tokens in "
            f"{real['epochs']} epochs of {real['stream_tokens']} tokens; lower training.batch or training.context"
        )
    planned = [row["stream_sequences"] for row in rows]
    if planned != list(expected[: len(rows)]):
        raise LakeError(f"recipe {recipe}: mixes plan {planned} sequences per stream, block mixing deals {expected}")
    return {
        "run": f"{recipe}-s{seed}",
        "recipe": recipe,
        "role": real["role"],
        "share": float(real["share"]),
        "seed": seed,
        "f": float(f),
        "epochs": float(real["epochs"]),
        "steps": int(real["steps"]),
        "streams": [
            {
                "layout": row["layout"],
                "tokens": int(row["stream_tokens"]),
                "sequences": int(row["stream_sequences"]),
                "passes": float(row["passes"]),
                "synthetic_share": row["stream_synthetic_tokens"] / row["stream_tokens"],
            }
            for row in rows
        ],
    }


def train(
    study: Study,
    lake: Lake,
    *,
    tokens: Published,
    mixes: Published,
    run: dict,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> Published:
    """``studies/<study>/runs/<run>``: evaluation.json, curve.parquet, position.parquet and the exported model.

    Its key holds the run's recipe and the training settings that shape its result, so another mix or seed in the
    study leaves it as it is.
    """
    if run not in plan_runs(study, mixes):
        raise LakeError(f"run {run['run']} is not in the plan of {mixes.uri}; plan the runs again")
    settings = study.training.model_dump(mode="json", exclude={"seeds", "reference_shares", "threads"})

    trained = False

    def write(directory: Path) -> Facts:
        nonlocal trained
        trained = True
        return _write(directory, study, tokens, run, tracker, progress)

    published = lake.publish(
        f"studies/{study.name}/runs/{run['run']}",
        write,
        config={"run": run, "training": settings},
        parents=[tokens],
        code=CODE,
    )
    if tracker and not trained:
        _replay(published, tracker)
    return published


def _replay(published: Published, tracker: Tracker) -> None:
    """The curve of a run that was trained before, so that its new tracking run is not empty."""
    rows = pq.read_table(published.file("curve.parquet")).to_pylist()
    for row in rows:
        if row["iid"] is not None or row["step"] % max(1, len(rows) // TRACKED_POINTS) == 0:
            held_out = {f"{name}_loss": row[name] for name in SETS if row[name] is not None}
            metrics = {"train_loss": row["train_loss"], "learning_rate": row["learning_rate"], **held_out}
            tracker.log_metrics(metrics, row["step"])


def _write(
    directory: Path,
    study: Study,
    tokens: Published,
    run: dict,
    tracker: Tracker | None,
    progress: Progress | None,
) -> Facts:
    training, facts = study.training, tokens.extra
    torch.set_num_threads(training.threads)
    device = choose_device()
    dtype = choose_precision(training.precision, device)
    log.info("%s: %d steps on %s in %s, %d thread(s)", run["run"], run["steps"], device.type, dtype, training.threads)
    held_out = evaluate.load(
        tokens.file("validation.bin"),
        tokens.file("validation.index.parquet"),
        dtype=facts["dtype"],
        boundary=facts["boundary"],
        context=training.context,
    )
    sequences = data.mix(
        {
            stream["layout"]: data.open_stream(tokens.file(f"{stream['layout']}.bin"), facts["dtype"], stream["tokens"])
            for stream in run["streams"]
        },
        f=run["f"],
        steps=run["steps"],
        batch=training.batch,
        block=training.block,
        context=training.context,
        seed=run["seed"],
    )
    model = Decoder(training.model, vocab=facts["vocabulary"], context=training.context, seed=run["seed"]).to(device)
    trained = fit(run["run"], model, sequences, held_out, training, dtype, tracker=tracker, progress=progress)

    final = trained.final
    total = len(sequences) * training.batch * training.context
    synthetic = round(
        sum(stream["sequences"] * stream["synthetic_share"] for stream in run["streams"]) * training.context
    )
    evaluation = {
        "run": run["run"],
        "recipe": run["recipe"],
        "role": run["role"],
        "share": run["share"],
        "seed": run["seed"],
        "losses": final.losses,
        "by_position": final.by_position,
        "finite": True,
        "steps": run["steps"],
        "tokens": {
            # a synthetic stream may hold real copies, which count as real
            "real": total - synthetic,
            "synthetic": synthetic,
            "total": total,
        },
        "streams": run["streams"],
        "parameters": model.parameter_counts(),
        "flops": model.flops_per_token() * total,
        "seconds": round(trained.seconds, 3),
        "tokens_per_second": round(total / trained.seconds, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": str(dtype).removeprefix("torch."),
        "threads": training.threads,
    }
    (directory / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n", encoding="utf-8")
    pq.write_table(trained.curve, directory / "curve.parquet")
    pq.write_table(pa.Table.from_pylist(final.by_position), directory / "position.parquet")
    export(model, tokens.file("tokenizer.json"), directory / "model")
    facts = {"losses": final.losses, "steps": run["steps"], "seconds": evaluation["seconds"]}
    return Facts(extra={**facts, "mlflow_run_id": getattr(tracker, "run_id", None)})
