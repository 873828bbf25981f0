"""The plugin's front page: what each corpus and study has published, and where to read more."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from palimpsest.lake import Lake, NotPublished, Published
from palimpsest_airflow import definitions
from palimpsest_airflow.ui.guard import newest_gate, summary
from palimpsest_airflow.ui.html import document, table

if TYPE_CHECKING:
    from palimpsest.config import Corpus, Study


def index_page(lake: Lake, mlflow: str) -> str:
    body = [
        "<h1>Palimpsest</h1>",
        "<p class=quiet>Scarce text in, megadocs and mixes out, and how many times its real tokens each is worth.</p>",
        f"<p><a href=data-docs/>Data Docs</a> &middot; <a href=dbt-docs/>dbt docs</a> &middot; "
        f'<a href="{escape(mlflow)}" target=_blank rel=noreferrer>MLflow</a></p>',
        "<h2>Studies</h2>",
        table(
            ("study", "question", "generation", "guard", "runs", "report"),
            (_study_row(lake, s) for s in definitions.studies()),
        ),
        *_loops(lake),
        *_labelled(lake),
        "<h2>Corpora</h2>",
        table(
            ("corpus", "source", "documents", "dropped", "funnel"),
            (_corpus_row(lake, c) for c in definitions.corpora()),
        ),
    ]
    return document("Palimpsest", "\n".join(body))


def message_page(title: str, text: str) -> str:
    return document(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>")


def _loops(lake: Lake) -> list[str]:
    """Their table, where there are any."""
    rows = []
    for loop in definitions.loops():
        report = _latest(lake, f"loops/{loop.name}/report")
        link = f'<a href="report/loop_{loop.name}/">read</a>' if report else "<span class=quiet>not run yet</span>"
        done = f"{report.extra['rounds']} of {loop.rounds}" if report else "–"
        rows.append((f"<code>{loop.name}</code>", escape(loop.description), ", ".join(loop.arms), done, link))
    return ["<h2>Loops</h2>", table(("loop", "question", "arms", "rounds", "report"), rows)] if rows else []


def _labelled(lake: Lake) -> list[str]:
    """Their table, where there are any."""
    rows = []
    for study in definitions.labelled():
        report = _latest(lake, f"labelled/{study.name}/report")
        link = f'<a href="report/labelled_{study.name}/">read</a>' if report else "<span class=quiet>not run yet</span>"
        found = escape(report.extra["headline"]) if report else "–"
        rows.append((f"<code>{study.name}</code>", escape(study.description), found, link))
    return ["<h2>Labelled studies</h2>", table(("study", "question", "outcome", "report"), rows)] if rows else []


def _study_row(lake: Lake, study: Study) -> tuple[str, ...]:
    report = _latest(lake, f"studies/{study.name}/report")
    link = f'<a href="report/study_{study.name}/">read</a>' if report else "<span class=quiet>not run yet</span>"
    runs = len(lake.children(f"studies/{study.name}/runs"))
    planned = _latest(lake, f"studies/{study.name}/plan")
    generation = f'<a href="generation/study_{study.name}/">see</a>' if planned else "<span class=quiet>–</span>"
    gate = newest_gate(lake, study.name)
    said = summary(gate.extra.get("guard", [])) if gate else ""
    guard = f'<a href="guard/study_{study.name}/">{said}</a>' if gate else "<span class=quiet>–</span>"
    return f"<code>{study.name}</code>", escape(study.description), generation, guard, str(runs), link


def _corpus_row(lake: Lake, corpus: Corpus) -> tuple[str, ...]:
    published = _latest(lake, f"corpora/{corpus.name}/documents")
    rows = {file["name"]: file.get("rows", 0) for file in published.manifest["files"]} if published else {}
    counts = (f"{rows[name]:,}" if name in rows else "–" for name in ("documents.parquet", "document_drops.parquet"))
    funnel = f'<a href="funnel/corpus_{corpus.name}/">see</a>' if published else "<span class=quiet>–</span>"
    return f"<code>{corpus.name}</code>", escape(corpus.description), *counts, funnel


def _latest(lake: Lake, dataset: str) -> Published | None:
    try:
        return lake.latest(dataset)
    except NotPublished:
        return None
