"""What is measured of finished runs besides their held-out losses: ensembles of seeds, context, downstream tasks.

``plan_judging`` says what, ``judge`` does one of it, ``judge_all`` all of it in turn: nothing for a study without
'judging'.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence

from palimpsest.config import Study
from palimpsest.lake import Lake, LakeError, Published
from training import downstream, track
from training.contexts import read_contexts
from training.ensemble import ensemble
from training.mlflow_store import store
from training.pretrain import publication
from training.waves import final_runs

log = logging.getLogger(__name__)
KINDS = {"ensemble": "ensembles", "contexts": "contexts", "tasks": "tasks"}
"""What judges, and the dataset that has it."""
SECONDS = "judging_seconds/"
"""Metric of a parent run in MLflow: what making the judgement of this URI took."""


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
    """The order done; ``runs`` are the study's published runs, the order's among them.

    Where the order has a ``parent``, that run in MLflow keeps the seconds it took, unless it was done already.
    """
    published = {run.dataset.rsplit("/", 1)[1]: run for run in runs}
    missing = [name for name in order["runs"] if name not in published]
    if missing:
        raise LakeError(f"{order['judge']} {order['name']}: run {', '.join(missing)} is not published; train it first")
    wanted = [published[name] for name in order["runs"]]
    known = {version.uri for version in lake.versions(f"studies/{study.name}/{KINDS[order['judge']]}/{order['name']}")}
    began = time.monotonic()
    if order["judge"] == "ensemble":
        done = ensemble(study, lake, tokens=tokens, mix=order["name"], members=wanted)
    elif order["judge"] == "contexts":
        done = read_contexts(study, lake, tokens=tokens, run=wanted[0])
    else:
        done = downstream.ask(study, lake, run=wanted[0])
    if "parent" in order and done.uri not in known:
        track.add_facts(order["parent"], {}, [(f"{SECONDS}{done.uri}", time.monotonic() - began, 0)], {})
    return done


def judge_all(study: Study, lake: Lake, *, tokens: Published, mixes: Published) -> Iterator[Published]:
    """Every order of the study's final runs; what is published already is found, not made again.

    Raises `LakeError`, before anything is judged, where a run is not trained as the study has it now.
    """
    runs = {run["run"]: run for run in final_runs(study, lake, mixes)}
    orders = plan_judging(study, list(runs.values()), {"tokens": tokens.ref})
    wanted = {name for order in orders for name in order["runs"]}
    places = {name: publication(study, tokens, mixes, run) for name, run in runs.items() if name in wanted}
    trained = {name: lake.version(**place) for name, place in places.items()}
    missing = [name for name, run in trained.items() if run is None]
    if missing:
        raise LakeError(
            f"study {study.name}: {len(missing)} of the {len(trained)} runs to judge are not published: "
            f"{', '.join(missing)}; run: python -m training train {study.name}"
        )
    if not orders:
        log.info("study %s asks for no ensembles, contexts or tasks under 'judging': nothing to judge", study.name)
        return
    parent = track.open_parent(study)
    for number, order in enumerate(orders, 1):
        log.info("%d of %d: %s %s", number, len(orders), order["judge"], order["name"])
        own = {**order, "parent": parent}
        yield judge(study, lake, tokens=tokens, runs=list(trained.values()), order=own)


def seconds(study: Study) -> dict[str, float]:
    """What making each judgement took, by its version's URI, as far as the study's parent runs in MLflow know."""
    with store() as client:
        experiment = client.get_experiment_by_name(study.name)
        parents = client.search_runs([experiment.experiment_id], f"tags.`{track.KEY}` LIKE '%'") if experiment else []
        metrics = [item for run in parents for item in run.data.metrics.items()]
    return {name.removeprefix(SECONDS): value for name, value in metrics if name.startswith(SECONDS)}
