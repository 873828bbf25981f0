"""``studies/<study>/report``: what each mix was worth, as a page, a table and figures.

Run it by hand with ``python -m training report STUDY``; it reads what the study published last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Study, load_study
from palimpsest.lake import Facts, Lake, Published
from training import track
from training.analysis import edges, pages, resolution, spent
from training.analysis.amounts import HOURS_OF
from training.analysis.figures import explain
from training.analysis.publish import log_report
from training.analysis.rows import schema
from training.analysis.table import compare_runs
from training.analysis.words import (
    SETS,
    TOLD,
    caveats,
    describe,
    lengths_text,
    loss_text,
    margins_text,
    over_documents,
    render_table,
    short,
    tokens_seen,
    warnings,
)
from training.bill import hours
from training.costs import generation_cost
from training.verdicts import log_verdicts
from training.waves import final_runs

PARTS = (
    "amounts contexts edges ensembles figures gaps judged laws lengths markdown members monotone pages paired panels "
    "plots profile report resolution rows sampling scaling selected series signs spent style table words"
)
CODE = [
    *(f"training/analysis/{name}.py" for name in PARTS.split()),
    "training/analysis/templates",
    "training/bill.py",
    "training/costs.py",
]


def report(
    study: Study,
    lake: Lake,
    *,
    mixes: Published,
    runs: Sequence[Published],
    generations: Published | None = None,
    search: Published | None = None,
    gate: Published | None = None,
    judged: Sequence[Published] = (),
    parent_run_id: str | None = None,
) -> Published:
    """The published report; with ``parent_run_id`` also logged there in MLflow, and that run is closed.

    ``search`` is ``studies/<study>/search``, ``judged`` the ensembles, losses by context, signs and tasks of these
    runs; ``gate`` is where the collapse guard's verdicts stand.
    """
    guard = [dict(verdict) for verdict in gate.extra.get("guard", [])] if gate else []
    further = [published for published in (generations, search) if published]
    parents = [mixes, *sorted((*runs, *judged), key=lambda run: run.dataset), *further]
    links = pages.links(parent_run_id)

    def write(directory: Path) -> Facts:
        from training.analysis.plots import draw

        cost = {
            layouts: generation_cost(study, lake, layouts, generations=generations)
            for layouts in {mix.layouts for mix in study.mixes.values() if generations and mix.f}
        }
        table = compare_runs(study, mixes, runs, generated=cost, search=search, verdicts=judged)
        (directory / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(table["mixes"], schema(table["sets"])), directory / "table.parquet")
        figures = draw(table, directory)
        page = _page(study, table, figures, directory, parents, generations, guard, links)
        (directory / "report.html").write_text(page, encoding="utf-8")
        return Facts(extra={"headline": table["headline"], "figures": figures})

    config = {
        "study": study.model_dump(mode="json", exclude={"servers", "gates", "guard", "shards", "owner", "schedule"}),
        "guard": guard,
        "urls": [os.environ.get(name) for name in ("PALIMPSEST_MLFLOW_URL", "PALIMPSEST_AIRFLOW_URL")],
    }
    published = lake.publish(f"studies/{study.name}/report", write, config=config, parents=parents, code=CODE)
    if parent_run_id is not None:
        log_report(study, published, load_table(published), parent_run_id, parents)
    return published


def load_table(published: Published) -> dict:
    return json.loads(published.file("table.json").read_text(encoding="utf-8"))


def main(study_name: str) -> Published:
    """Report on what the study published last, in the lake and in the study's run in MLflow, and print it."""
    study, lake = load_study(study_name), Lake.from_env()
    mixes = lake.latest(f"studies/{study.name}/mixes")
    names = {run["run"] for run in final_runs(study, lake, mixes)}
    runs = [run for run in lake.children(f"studies/{study.name}/runs") if run.dataset.rsplit("/", 1)[1] in names]
    generations, gate = lake.latest(f"studies/{study.name}/generations"), _gate(study, lake, mixes)
    parent = track.open_parent(study)
    if gate:
        log_verdicts(parent, study, gate)
    published = report(
        study,
        lake,
        mixes=mixes,
        runs=runs,
        generations=generations,
        search=lake.latest(f"studies/{study.name}/search") if study.search else None,
        gate=gate,
        judged=_judged(study, lake, runs),
        parent_run_id=parent,
    )
    print(render_table(load_table(published)))
    print(f"page: {published.file('report.html')}")
    return published


def _gate(study: Study, lake: Lake, mixes: Published) -> Published | None:
    """The gate that let these very mixes through."""
    gates = lake.versions(f"studies/{study.name}/gate")
    return next((g for g in reversed(gates) if mixes.digest in {p["digest"] for p in g.manifest["parents"]}), None)


def _judged(study: Study, lake: Lake, runs: Sequence[Published]) -> list[Published]:
    """The newest ensembles, losses by context, signs and tasks, as far as they are of these very runs."""
    known, kinds = {run.digest for run in runs}, ("ensembles", "contexts", "signs", "tasks")
    found = [v for kind in kinds for v in lake.children(f"studies/{study.name}/{kind}")]
    return [
        published
        for published in found
        if known.issuperset(p["digest"] for p in published.manifest["parents"] if "/runs/" in p["dataset"])
    ]


def _page(
    study: Study,
    table: dict,
    figures: list[str],
    directory: Path,
    parents: Sequence[Published],
    generations: Published | None,
    guard: list[dict],
    links: dict[str, str],
) -> str:
    from training.analysis.style import colours

    environment = pages.environment()
    words = {"margins": margins_text, "over_documents": over_documents, "told": TOLD, "caveats": caveats}
    words |= {"lengths_text": lengths_text, "hours": hours, "hours_of": HOURS_OF}
    environment.globals |= {"set_names": SETS, "warnings": warnings(table), "at_ends": edges.sentence}
    environment.globals |= {"resolution": resolution.shown(table), "unseen": resolution.sentence}
    environment.globals |= words | {"describe": describe, "loss_text": loss_text, "short": short}
    environment.globals |= {"tokens_seen": tokens_seen, "passes": spent.passes(table)}
    drawings = [pages.drawing(*explain(name), (directory / f"{name}.svg").read_text("utf-8")) for name in figures]
    return environment.get_template("report.html.j2").render(
        study=study,
        table=table,
        colours=colours(table),
        figures=drawings,
        strategies=dict(generations.extra.get("by_strategy", {})) if generations else {},
        datasets=[{"name": p.dataset, "uri": p.uri, "digest": p.digest} for p in parents],
        guard=guard,
        links=links,
    )
