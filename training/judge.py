"""What is measured of finished runs besides their held-out losses: ensembles of seeds, context, downstream tasks.

``plan_judging`` says what, ``judge`` does one of it. Both are empty for a study without 'judging'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palimpsest.config import Study
from palimpsest.lake import Lake, LakeError, Published
from training import downstream
from training.contexts import read_contexts
from training.ensemble import ensemble


def plan_judging(study: Study, runs: Sequence[Mapping], refs: Mapping) -> list[dict]:
    """One JSON-able order per ensemble, and per run with contexts or tasks: ``judge`` (its kind), name, runs, refs.

    ``runs`` are the final runs as they are trained. Loss by context and tasks are asked of the mixes' runs, not of the
    reference on less text. Raises `ConfigError` where the tasks cannot be asked: call it before training as well.
    """
    downstream.require(study)
    seeds = {name: study.training_of(name).seeds for name in study.mixes}
    final = [run for run in runs if run["recipe"] in seeds]
    final.sort(key=lambda run: seeds[run["recipe"]].index(run["seed"]))
    orders = [
        {"judge": "ensemble", "name": mix, "runs": [run["run"] for run in final if run["recipe"] == mix]}
        for mix in study.judging.ensembles
    ]
    if study.judging.contexts:
        orders += [{"judge": "contexts", "name": run["run"], "runs": [run["run"]]} for run in final]
    if study.judging.tasks:
        orders += [{"judge": "tasks", "name": run["run"], "runs": [run["run"]]} for run in final]
    return [order | {"refs": dict(refs)} for order in orders]


def judge(study: Study, lake: Lake, *, tokens: Published, runs: Sequence[Published], order: Mapping) -> Published:
    """The order done; ``runs`` are the study's published runs, the order's among them."""
    published = {run.dataset.rsplit("/", 1)[1]: run for run in runs}
    missing = [name for name in order["runs"] if name not in published]
    if missing:
        raise LakeError(f"{order['judge']} {order['name']}: run {', '.join(missing)} is not published; train it first")
    wanted = [published[name] for name in order["runs"]]
    if order["judge"] == "ensemble":
        return ensemble(study, lake, tokens=tokens, mix=order["name"], members=wanted)
    if order["judge"] == "contexts":
        return read_contexts(study, lake, tokens=tokens, run=wanted[0])
    return downstream.ask(study, lake, run=wanted[0])
