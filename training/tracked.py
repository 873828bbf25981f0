"""A study's training runs, each with its run in MLflow: what the tasks of its Dag and ``python -m training`` do alike.

An order is one run: ``run`` as it is planned, ``parent`` (the study's run in MLflow), and ``wave`` where a search asked
for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from palimpsest.config import Study
from palimpsest.lake import Lake, Published
from training import pretrain, signs, track, waves
from training.costs import run_cost
from training.loop import Progress

Begun = Callable[[str], None]
"""Called with the id of the order's run in MLflow, as soon as there is one."""


def train(
    study: Study,
    lake: Lake,
    *,
    split: Published,
    tokens: Published,
    mixes: Published,
    order: Mapping,
    map_index: int | None = None,
    begun: Begun | None = None,
    progress: Progress | None = None,
) -> Published:
    """A final run, evaluated and read for early signs; its MLflow run has its curve, its cost and the signs."""
    run = order["run"]
    with _child(study, order, [tokens, mixes], map_index, begun, final=True) as tracker:
        trained = pretrain.train(study, lake, tokens=tokens, mixes=mixes, run=run, tracker=tracker, progress=progress)
        tracker.log_metrics(run_cost(trained), run["steps"])
        found = signs.read(study, lake, split=split, tokens=tokens, run=trained)
        tracker.log_metrics(signs.metrics(found.extra), run["steps"])
    return trained


def train_point(
    study: Study,
    lake: Lake,
    *,
    tokens: Published,
    mixes: Published,
    order: Mapping,
    map_index: int | None = None,
    begun: Begun | None = None,
    progress: Progress | None = None,
) -> Published:
    """The run at one point of a search, or the record of its divergence; then its MLflow run has failed."""
    return waves.train_point(
        study,
        lake,
        tokens=tokens,
        mixes=mixes,
        run=order["run"],
        tracked=lambda: _child(study, order, [tokens, mixes], map_index, begun),
        progress=progress,
    )


def final_orders(study: Study, lake: Lake, mixes: Published) -> list[dict]:
    """One order, still without its parent, per run that the study compares, the longest first.

    Raises `LakeError` where a search has not found their settings (`training.waves.final_runs`).
    """
    runs = waves.final_runs(study, lake, mixes)
    if study.search is None:
        return [{"run": run} for run in runs]
    return waves.final_orders(study, mixes, lake.latest(f"studies/{study.name}/search"))


@contextmanager
def _child(
    study: Study,
    order: Mapping,
    datasets: list[Published],
    map_index: int | None,
    begun: Begun | None,
    final: bool = False,
) -> Iterator[track.Tracker]:
    tags = waves.tags(study, order) if study.search else {}
    if study.search and final:
        tags["palimpsest.final"] = "true"
    with track.child(study, order["parent"], order["run"], datasets, map_index=map_index, tags=tags) as tracker:
        if begun:
            begun(tracker.run_id)
        yield tracker
