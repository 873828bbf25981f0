"""All published pages of a corpus become its documents, and a reason for each page that did not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb

from palimpsest import warehouse
from palimpsest.config import Corpus
from palimpsest.lake import Facts, Lake, NotPublished, Published, Rows

SELECT = "+documents +document_drops"
CODE = (
    "plugins/palimpsest/documents.py",
    "plugins/palimpsest/warehouse.py",
    "dbt_project/dbt_project.yml",
    "dbt_project/macros",
    "dbt_project/models/corpus",
    "dbt_project/tests/corpus",
)


def build_documents(corpus: Corpus, lake: Lake) -> Published:
    """``corpora/<corpus>/documents``: documents.parquet and document_drops.parquet over every published day.

    Deduplication looks at all days at once, so the whole table is made again when a day changes. The manifest's
    ``extra`` is the funnel from WARC records to documents.
    """
    days = [day for day in lake.children(f"corpora/{corpus.name}/pages") if _inside(day, corpus)]
    if not days:
        raise NotPublished(
            f"corpora/{corpus.name}/pages has no published day between {corpus.start} and {corpus.end} in lake "
            f"{lake.root}; run the extraction first: python -m palimpsest ingest {corpus.name}"
        )
    rules = corpus.documents.model_dump()
    provenance = {"corpus": corpus.name, "origin": corpus.origin}

    def write(directory: Path) -> Facts:
        inputs = {"pages": [day.file("pages.parquet") for day in days]}
        warehouse.build(SELECT, inputs=inputs, variables={"rules": rules, **provenance}, out=directory)
        return _facts(directory, days)

    config = {"rules": rules, **provenance}
    return lake.publish(f"corpora/{corpus.name}/documents", write, config=config, parents=days, code=CODE)


def admitted_documents(corpus: str, lake: Lake) -> Published:
    """The newest documents of a corpus that its gate let through; what a study may use."""
    verdict = lake.latest(f"corpora/{corpus}/gate")
    parent = next(p for p in verdict.manifest["parents"] if p["dataset"] == f"corpora/{corpus}/documents")
    return lake.open(parent["uri"], parent["digest"])


def _inside(day: Published, corpus: Corpus) -> bool:
    return corpus.start.isoformat() <= day.dataset.rsplit("/", 1)[1] <= corpus.end.isoformat()


def _facts(directory: Path, days: list[Published]) -> Facts:
    with duckdb.connect() as connection:
        kept, words, sites = connection.execute(
            "select count(*), coalesce(sum(words), 0)::bigint, count(distinct site) from read_parquet(?)",
            [str(directory / "documents.parquet")],
        ).fetchone()
        drops = connection.execute(
            "select reason, rule, count(*) from read_parquet(?) group by all order by all",
            [str(directory / "document_drops.parquet")],
        ).fetchall()
    reasons: Counter[str] = Counter()
    for reason, _, count in drops:
        reasons[reason] += count
    quarantined: Counter[str] = Counter()
    for day in days:
        quarantined.update(day.manifest["rows"]["quarantined"])
    pages = sum(day.manifest["rows"]["kept"] for day in days)
    funnel = {
        "days": len(days),
        "responses": sum(day.manifest["rows"]["input"] for day in days),
        "quarantined": dict(sorted(quarantined.items())),
        "pages": pages,
        "dropped": {rule: count for _, rule, count in drops},
        "documents": kept,
        "words": words,
        "sites": sites,
    }
    return Facts(Rows(pages, kept, dropped=dict(reasons)), {"funnel": funnel})
