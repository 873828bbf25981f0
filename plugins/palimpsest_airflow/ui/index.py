"""The plugin's front page: what each corpus and study has published, and where to read more."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from palimpsest.lake import Lake, NotPublished, Published
from palimpsest_airflow import definitions

if TYPE_CHECKING:
    from palimpsest.config import Corpus, Study

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.55 system-ui, sans-serif; margin: 2.5rem auto; max-width: 60rem; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .2rem 0 1rem; } .quiet { opacity: .65; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .45rem .8rem .45rem 0; text-align: left;
vertical-align: top; border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
th { font-weight: 600; font-size: .85rem; opacity: .7; } td.number { font-variant-numeric: tabular-nums; }
a { color: light-dark(#0b5cad, #7cb8f7); text-decoration: none; } a:hover { text-decoration: underline; }
code { font-size: .9em; }
"""


def index_page(lake: Lake, mlflow: str) -> str:
    body = [
        "<h1>Palimpsest</h1>",
        "<p class=quiet>Scarce text in, megadocs and mixes out, and how many times its real tokens each is worth.</p>",
        f"<p><a href=data-docs/>Data Docs</a> &middot; <a href=dbt-docs/>dbt docs</a> &middot; "
        f'<a href="{escape(mlflow)}" target=_blank rel=noreferrer>MLflow</a></p>',
        "<h2>Studies</h2>",
        _table(("study", "question", "runs", "report"), (_study_row(lake, s) for s in definitions.studies())),
        "<h2>Corpora</h2>",
        _table(("corpus", "source", "documents", "dropped"), (_corpus_row(lake, c) for c in definitions.corpora())),
    ]
    return _document("Palimpsest", "\n".join(body))


def message_page(title: str, text: str) -> str:
    return _document(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>")


def _study_row(lake: Lake, study: Study) -> tuple[str, ...]:
    report = _latest(lake, f"studies/{study.name}/report")
    link = f'<a href="report/study_{study.name}/">read</a>' if report else "<span class=quiet>not run yet</span>"
    runs = len(lake.children(f"studies/{study.name}/runs"))
    return f"<code>{study.name}</code>", escape(study.description), str(runs), link


def _corpus_row(lake: Lake, corpus: Corpus) -> tuple[str, ...]:
    published = _latest(lake, f"corpora/{corpus.name}/documents")
    rows = {file["name"]: file.get("rows", 0) for file in published.manifest["files"]} if published else {}
    counts = (f"{rows[name]:,}" if name in rows else "–" for name in ("documents.parquet", "document_drops.parquet"))
    return f"<code>{corpus.name}</code>", escape(corpus.description), *counts


def _latest(lake: Lake, dataset: str) -> Published | None:
    try:
        return lake.latest(dataset)
    except NotPublished:
        return None


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _document(title: str, body: str) -> str:
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )
