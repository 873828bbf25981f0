"""``studies/<study>/report``: what each mix was worth, as a page, a table and figures.

Run it by hand with ``python -m training report STUDY``; it reads what the study published last.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Study, load_study
from palimpsest.lake import Facts, Lake, Published
from training import track
from training.table import SCHEMA, compare_runs, describe, loss_text, render_table

CODE = [f"training/{name}" for name in ("report.py", "table.py", "plots.py", "scaling.py", "templates")]
FIGURES = {
    "loss-by-mix": (
        "Loss on held-out documents, by mix",
        "Further left is better; dashed is real-only. Seeds are paired: a shift that all mixes share tells nothing.",
    ),
    "loss-by-generations": (
        "Loss against generations per document",
        "One line per layout and strategy; pale dots are seeds, dashed is real-only.",
    ),
    "loss-by-tokens": (
        "What a mix is worth in real tokens",
        "The curve is what more real text would bring. A mix stands at its loss; follow its line to the curve, and "
        "read below how many real tokens would have been needed.",
    ),
    "loss-by-position": (
        "Loss by position in the document",
        "How well a model uses what it has already read: a curve that keeps falling is a longer memory.",
    ),
}


def report(
    study: Study,
    lake: Lake,
    *,
    mixes: Published,
    runs: Sequence[Published],
    generations: Published | None = None,
    parent_run_id: str | None = None,
) -> Published:
    """The published report; with ``parent_run_id`` also logged there in MLflow, and that run is closed."""
    parents = [mixes, *sorted(runs, key=lambda run: run.dataset), *([generations] if generations else [])]
    links = _links(parent_run_id)

    def write(directory: Path) -> Facts:
        from training.plots import draw

        table = compare_runs(study, mixes, runs)
        (directory / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(table["mixes"], schema=SCHEMA), directory / "table.parquet")
        figures = draw(table, directory)
        page = _page(study, table, figures, directory, parents, generations, links)
        (directory / "report.html").write_text(page, encoding="utf-8")
        return Facts(extra={"headline": table["headline"], "figures": figures})

    config = {
        "study": study.model_dump(mode="json", include={"name", "description", "layouts", "mixes", "reference"}),
        "urls": [os.environ.get(name) for name in ("PALIMPSEST_MLFLOW_URL", "PALIMPSEST_AIRFLOW_URL")],
    }
    published = lake.publish(f"studies/{study.name}/report", write, config=config, parents=parents, code=CODE)
    if parent_run_id is not None:
        _log(study, published, parent_run_id, parents)
    return published


def load_table(published: Published) -> dict:
    return json.loads(published.file("table.json").read_text(encoding="utf-8"))


def main(study_name: str) -> Published:
    """Report on what the study published last, and print it."""
    study, lake = load_study(study_name), Lake.from_env()
    mixes = lake.latest(f"studies/{study.name}/mixes")
    recipes = {row["recipe"] for row in pq.read_table(mixes.file("mixes.parquet"), columns=["recipe"]).to_pylist()}
    names = {f"{recipe}-s{seed}" for recipe in recipes for seed in study.training.seeds}
    runs = [run for run in lake.children(f"studies/{study.name}/runs") if run.dataset.rsplit("/", 1)[1] in names]
    published = report(
        study, lake, mixes=mixes, runs=runs, generations=lake.latest(f"studies/{study.name}/generations")
    )
    print(render_table(load_table(published)))
    print(f"page: {published.file('report.html')}")
    return published


def _log(study: Study, published: Published, parent_run_id: str, parents: Sequence[Published]) -> None:
    table = load_table(published)
    metrics = {f"loss/{row['mix']}": row["loss_iid"] for row in table["mixes"]}
    metrics |= {f"loss_long/{row['mix']}": row["loss_long"] for row in table["mixes"]}
    metrics |= {f"efficiency/{row['mix']}": row["efficiency"] for row in table["mixes"] if row["verdict"] == "resolved"}
    columns = {
        "mix": [row["mix"] for row in table["mixes"]],
        "real tokens": [row["real_tokens"] for row in table["mixes"]],
        "synthetic tokens": [row["synthetic_tokens"] for row in table["mixes"]],
        "validation loss": [loss_text(row, "iid") for row in table["mixes"]],
        "long-context loss": [loss_text(row, "long") for row in table["mixes"]],
        "data efficiency": [describe(row) for row in table["mixes"]],
        "why": [row["reason"] for row in table["mixes"]],
    }
    track.finish_parent(
        study,
        parent_run_id,
        published.path,
        {name: value for name, value in metrics.items() if value is not None},
        headline=table["headline"],
        table=columns,
        datasets=parents,
    )


def _links(parent_run_id: str | None) -> dict[str, str]:
    """Where to look further: the run that made the report, as far as the addresses are known."""
    airflow, mlflow = track.airflow_url(track.airflow_tags()), track.run_url(parent_run_id) if parent_run_id else None
    return {name: url for name, url in (("This run in Airflow", airflow), ("Its runs in MLflow", mlflow)) if url}


def _page(
    study: Study,
    table: dict,
    figures: list[str],
    directory: Path,
    parents: Sequence[Published],
    generations: Published | None,
    links: dict[str, str],
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from training.plots import INK, colours

    folder = Path(__file__).parent / "templates"
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    environment.globals |= {"describe": describe, "loss_text": loss_text}
    drawings = [
        {
            "title": FIGURES[name][0],
            "note": FIGURES[name][1],
            "svg": _inline((directory / f"{name}.svg").read_text(encoding="utf-8"), INK, FIGURES[name][0]),
        }
        for name in figures
    ]
    return environment.get_template("report.html.j2").render(
        study=study,
        table=table,
        colours=colours(table),
        figures=drawings,
        strategies=dict(generations.extra.get("by_strategy", {})) if generations else {},
        datasets=[{"name": p.dataset, "uri": p.uri, "digest": p.digest} for p in parents],
        links=links,
    )


def _inline(svg: str, ink: str, title: str) -> str:
    """A drawing as an element of the page: in its text colour, scaling with it, named for screen readers."""
    body = svg[svg.index("<svg") :].replace(ink, "currentColor")
    opening, rest = body.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{title}">{rest}'
