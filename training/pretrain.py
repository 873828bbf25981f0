"""One pre-training run: seeded, mixed as planned, evaluated as it goes, published whole or not at all.

A run that is cut off goes on from its newest checkpoint; nothing half-done is ever published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published, digest_code
from training import points
from training.checkpoint import Checkpoints
from training.launch import launch
from training.live import Live
from training.loop import Progress, Tracker
from training.points import Point
from training.processes import Group
from training.run import write_run

CODE = [
    f"training/{name}.py"
    for name in (
        "attention", "data", "delimiters", "documents", "evaluate", "export", "loop", "loss", "model", "optim",
        "pretrain", "processes", "rise", "run", "step",
    )
] + ["plugins/palimpsest/packing.py"]  # fmt: skip
UNSHAPING = {
    "seeds", "reference_shares", "threads", "micro_tokens", "processes", "parallel", "compile", "checkpoint_seconds",
}  # fmt: skip
"""Settings that change a run's numbers by rounding at most: another of these takes up the same run. (With dropout the
masks are drawn per micro-batch and process, so those three shape it.)"""


def plan_runs(study: Study, mixes: Published, best: Mapping[str, Point] | None = None) -> list[dict]:
    """Every run of the study, one JSON-able dict per (recipe, seed), the longest first.

    ``streams`` lists the real stream first, then the synthetic one; ``f`` is the synthetic share. A study that searches
    also needs the ``best`` point of each recipe it searches: `training.waves` finds them.
    """
    recipes = points.recipes(mixes)
    for rows in recipes.values():
        _check(study, rows)
    found = points.resolve(study, recipes, best or {})
    runs = [
        points.at(study, recipes[recipe], found[recipe], seed)
        for recipe in found
        for seed in study.training_of(recipe).seeds
    ]
    return sorted(runs, key=lambda run: (-run["steps"], run["run"]))


def _check(study: Study, rows: list[dict]) -> None:
    """The tables were dealt as this study's runs are."""
    rows = points.in_order(study, rows)
    recipe = rows[0]["recipe"]
    dealt = [stream["sequences"] for stream in points.at(study, rows, points.own(study, recipe), 0)["streams"]]
    planned = [row["stream_sequences"] for row in rows]
    if planned != dealt:
        raise LakeError(f"recipe {recipe}: mixes plan {planned} sequences per stream, block mixing deals {dealt}")


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
    """``studies/<study>/runs/<run>``: evaluation.json, the tables curve, position and documents, and the model.

    Its key holds the run's recipe and the training settings that shape its result, so another mix, seed or search in
    the study leaves it as it is. With ``training.processes`` above 1 torchrun starts that many; this process waits.
    """
    trained = False
    place = publication(study, tokens, mixes, run)
    checkpoints = checkpoints_of(study, lake, tokens, run)

    def write(directory: Path) -> Facts:
        nonlocal trained
        trained = True
        if points.applied(study, run).training.processes > 1:
            return launch(study, lake, tokens, run, directory, tracker=tracker, progress=progress)
        return write_run(directory, checkpoints, study, tokens, run, tracker=tracker, progress=progress)

    published = lake.publish(**place, write=write)
    checkpoints.remove()
    if tracker and not trained:
        _replay(published, tracker)
    return published


def train_together(
    study: Study,
    lake: Lake,
    *,
    tokens: Published,
    mixes: Published,
    run: dict,
    group: Group,
    progress: Progress | None = None,
) -> Published | None:
    """The same from inside a group that torchrun started, over any number of machines that see one lake.

    The first process publishes and gets the version; the others train with it and get None.
    """
    checkpoints = checkpoints_of(study, lake, tokens, run)
    if group.rank:
        if group.agree():
            write_run(None, checkpoints, study, tokens, run, group=group)
        return None
    needed = False

    def write(directory: Path) -> Facts:
        nonlocal needed
        needed = group.agree(True)
        return write_run(directory, checkpoints, study, tokens, run, progress=progress, group=group)

    published = lake.publish(**publication(study, tokens, mixes, run), write=write)
    if not needed:
        group.agree(False)
    checkpoints.remove()
    return published


def publication(study: Study, tokens: Published, mixes: Published, run: dict) -> dict:
    """What the lake keys the run by. Raises `LakeError` for a run that the study cannot come to."""
    rows = points.recipes(mixes).get(run["recipe"])
    if not rows or run != _planned(study, rows, run):
        raise LakeError(f"run {run['run']} is not in the plan of {mixes.uri}; plan the runs again")
    return {
        "dataset": f"studies/{study.name}/runs/{run['run']}",
        "config": _identity(study, run),
        "parents": [tokens],
        "code": CODE,
    }


def _planned(study: Study, rows: list[dict], run: dict) -> dict | None:
    """The run as this study has it; None where it comes to no such seed or point."""
    _check(study, rows)
    point, seeds = points.of(study, run), set(study.training_of(run["recipe"]).seeds)
    seeds |= {study.search.seed} if study.search else set()
    if run["seed"] not in seeds or not points.possible(study, run["recipe"], point):
        return None
    return points.at(study, rows, point, run["seed"])


def checkpoints_of(study: Study, lake: Lake, tokens: Published, run: dict) -> Checkpoints:
    training = points.applied(study, run).training
    identity = {**_identity(study, run), "tokens": tokens.digest, "code": digest_code(*CODE)}
    name = f"studies/{study.name}/runs/{run['run']}"
    return Checkpoints(lake, name, identity, tokens.file("tokenizer.json"), training.checkpoint_seconds)


def _identity(study: Study, run: dict) -> dict:
    """What shapes the run's numbers, wherever in the study's file it is written."""
    applied = points.applied(study, run).training
    unshaping = UNSHAPING - {"micro_tokens", "processes", "parallel"} if applied.dropout else UNSHAPING
    training = applied.model_dump(mode="json", exclude=unshaping)
    return {"run": {key: value for key, value in run.items() if key not in ("point", "training")}, "training": training}


def _replay(published: Published, tracker: Tracker) -> None:
    """The curve of a run that was trained before, so that its new tracking run is not empty."""
    rows = pq.read_table(published.file("curve.parquet")).to_pylist()
    live = Live(len(rows), (row["step"] for row in rows if row["iid"] is not None), tokens=rows[0]["tokens"])
    for step in live.past(len(rows), published.extra["seconds"]):
        row = rows[step - 1]
        held_out = {f"{name}_loss": row[name] for name in published.extra["losses"] if row[name] is not None}
        own = {name: row[name] for name in ("train_loss", "learning_rate", "gradient_norm")}
        tracker.log_metrics(own | held_out, step)
