"""Tasks of a labelled study's Dag: what is short of items, what generated ones are worth, and the repaired data."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from palimpsest_airflow.tasks import serving
from palimpsest_airflow.tasks.common import Ref, keep_data_docs, keep_links, opened, stage, work

if TYPE_CHECKING:
    from palimpsest.labelled.coverage import Cell

log = logging.getLogger(__name__)


@stage()
def plan(name: str) -> Ref:
    """Counts label by group, and says cell by cell: enough, generate, or collect."""
    from palimpsest.config import check_files, load_labelled
    from palimpsest.labelled import coverage, stages

    study = load_labelled(name)
    check_files(study)
    with work() as lake:
        published = stages.plan(study, lake)
    cells: list[Cell] = stages.opened(published)[1]
    log.info("%s: %s", published.uri, "\n" + coverage.render(cells))
    return published.ref


@stage(pool="train", map_index_template="seed {{ task.op_kwargs['seed'] }}")
def measure(name: str, planned: Ref, seed: int) -> Ref:
    """Generates and verifies with one seed, then trains and measures every arm on real test items."""
    from palimpsest.config import load_labelled, load_study
    from palimpsest.labelled import stages

    study = load_labelled(name)
    with work() as lake:
        if study.generator.kind == "strategy":
            serving.with_keys(load_study(study.generator.study))
        return stages.measure(study, lake, opened(lake, planned), seed).ref


@stage()
def card(name: str, planned: Ref, measured: list[Ref]) -> Ref:
    """The report card: means over the seeds, and what the gates say of them, here and in Data Docs."""
    import json

    from expectations.labelled import show
    from palimpsest.config import load_labelled
    from palimpsest.labelled import card as cards

    with work() as lake:
        seeds = [opened(lake, ref) for ref in measured]
        published = cards.card(load_labelled(name), lake, opened(lake, planned), seeds)
    keep_data_docs(show(published).page)
    log.info("%s", "\n" + cards.render(json.loads(published.file("table.json").read_text(encoding="utf-8"))))
    return published.ref


@stage()
def report(name: str, told: Ref) -> Ref:
    """The card as page, figures and Markdown, here and in MLflow, whichever way it fell."""
    from palimpsest.config import load_labelled
    from training.labelled import report
    from training.track import open_parent

    study = load_labelled(name)
    parent = open_parent(study)
    keep_links(Report=f"report/labelled_{name}/", MLflow=f"#/runs/{parent}")
    with work() as lake:
        return report(study, lake, opened(lake, told), parent_run_id=parent).ref


@stage()
def repair(name: str, planned: Ref, measured: list[Ref], told: Ref) -> Ref:
    """Publishes the real training items with the accepted generated ones; fails where a gate did."""
    from palimpsest.config import load_labelled
    from palimpsest.labelled import card as cards

    with work() as lake:
        parts = (opened(lake, ref) for ref in (planned, measured[0], told))
        return cards.repaired(load_labelled(name), lake, *parts).ref
