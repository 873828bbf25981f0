"""``labelled/<name>/report``: a labelled study's report card as a page, Markdown and figures, and in MLflow.

By hand: ``python -m training labelled NAME``; it reads the card that ``python -m palimpsest labelled run NAME`` (or the
Dag) published last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from palimpsest.config import Labelled, load_labelled
from palimpsest.lake import Facts, Lake, Published
from training import track

CODE = ["training/labelled.py", *(f"training/analysis/{name}.py" for name in ("labelled", "pages", "plots", "style"))]
CODE += ["training/analysis/templates"]
UNNAMEABLE = re.compile(r"[^\w.\- :]")
"""What MLflow allows in no metric's name."""
FIGURES = ("balanced_accuracy", "worst_cell_recall", "tail_recall", "head_recall", "head_change", "ece", "added")


def report(study: Labelled, lake: Lake, told: Published, *, parent_run_id: str | None = None) -> Published:
    """The published report of a card; with ``parent_run_id`` also in MLflow, and that run is closed."""
    table = json.loads(told.file("table.json").read_text(encoding="utf-8"))

    def write(directory: Path) -> Facts:
        from training.analysis import labelled, pages

        (directory / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        figures = labelled.draw(table, directory)
        page = labelled.page(table, figures, directory, pages.links(parent_run_id))
        (directory / "report.html").write_text(page, encoding="utf-8")
        (directory / "report.md").write_text(labelled.markdown(table), encoding="utf-8")
        return Facts(extra={"headline": table["headline"], "figures": figures})

    published = lake.publish(f"labelled/{study.name}/report", write, parents=[told], code=CODE)
    if parent_run_id is not None:
        _track(study, table, published, parent_run_id)
    return published


def _track(study: Labelled, table: Mapping, published: Published, parent_run_id: str) -> None:
    """Metrics by arm (``balanced_accuracy/verified``); along the curve a step is a percent of the deficit."""
    metrics = {
        f"{name}/{row['arm']}": row[name] for row in table["arms"] for name in FIGURES if row.get(name) is not None
    }
    metrics |= {name: table["fidelity"][name] for name in ("tstr", "trtr", "trts") if name in table["fidelity"]}
    for label, apart in table["fidelity"]["c2st"].items():
        if "auc" in apart:
            metrics[f"c2st_over_null/{UNNAMEABLE.sub('_', label)}"] = apart["auc"] - apart["null"]
    metrics |= {f"label_noise/{arm}": one["estimate"] for arm, one in table["noise"].items() if "estimate" in one}
    curves = {
        round(100 * point["share"]): {f"curve/{name}": point[name] for name in FIGURES if point.get(name) is not None}
        for point in table["curve"]
        if point["share"]  # step 0 has the metrics by arm, of which oversampling is this point
    }
    columns = ("gate", "outcome", "subject", "measure", "sentence", "value", "limit")
    verdicts = {name: [str(one[name]) for one in table["verdicts"]] for name in columns}
    cells = {name: [str(cell[name]) for cell in table["cells"]] for name in table["cells"][0]}
    outcomes = {f"palimpsest.labelled.{v['gate']}.{v['measure']}": v["outcome"] for v in table["verdicts"]}
    track.finish_parent(
        study,
        parent_run_id,
        published.path,
        metrics,
        curves=curves,
        headline=table["headline"],
        tables={"verdicts.json": verdicts, "coverage.json": cells},
        tags={"palimpsest.report": published.digest, **outcomes},
    )


def main(name: str) -> Published:
    """Report on the card that the study published last, and say where."""
    study, lake = load_labelled(name), Lake.from_env()
    parent = track.open_parent(study)
    published = report(study, lake, lake.latest(f"labelled/{study.name}/card"), parent_run_id=parent)
    print(published.extra["headline"])
    print(f"page: {published.file('report.html')}")
    return published
