"""All published pages of a corpus become its documents, and a reason for each page that did not."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from palimpsest import comparisons, decontamination, warehouse
from palimpsest.config import Corpus
from palimpsest.config.scoring import COLUMN
from palimpsest.ingest import datatrove
from palimpsest.lake import Facts, Lake, LakeError, NotPublished, Published, Rows

SELECT = "+documents +document_drops +document_funnel +document_comparisons"
OVERLAPS = "document_overlaps"
CHANGES = "document_changes"
CODE = (
    "plugins/palimpsest/documents.py",
    "plugins/palimpsest/comparisons.py",
    "plugins/palimpsest/dbt_functions.py",
    "plugins/palimpsest/ingest/minhash.py",
    "plugins/palimpsest/warehouse.py",
    "dbt_project/dbt_project.yml",
    "dbt_project/macros",
    "dbt_project/models/corpus",
    "dbt_project/tests/corpus",
)


def build_documents(corpus: Corpus, lake: Lake) -> Published:
    """``corpora/<corpus>/documents``: documents, document_drops and document_funnel over every published day.

    Deduplication looks at all days at once, so the whole table is made again when a day changes; pairs of texts that
    were compared for the latest documents (document_comparisons.parquet) are not compared again. The funnel says for
    each day what became of its records; the manifest's ``extra`` has that of all days together. Of a corpus that names
    evaluation sets there is document_overlaps.parquet too: the pages that recite one of their items.
    """
    days = [day for day in lake.children(f"corpora/{corpus.name}/pages") if _inside(day, corpus)]
    if not days:
        raise NotPublished(
            f"corpora/{corpus.name}/pages has no published day between {corpus.start} and {corpus.end} in lake "
            f"{lake.root}; run the extraction first: python -m palimpsest ingest {corpus.name}"
        )
    rules = corpus.documents.model_dump()
    provenance = {"corpus": corpus.name, "origin": corpus.origin}
    select, config = [SELECT], {"rules": rules, **provenance}
    if corpus.tells_changes:
        select.append(f"+{CHANGES}")
        config["cleaning"] = sorted(corpus.cleaning.columns)
    dataset, measured = f"corpora/{corpus.name}/documents", comparisons.measured_by(rules["shingle_words"], CODE)
    overlaps = decontamination.find_overlaps(corpus, days, lake) if corpus.decontamination.sets else []
    if overlaps:
        select.append(OVERLAPS)
        config["decontamination"] = corpus.decontamination.action

    def write(directory: Path) -> Facts:
        with tempfile.TemporaryDirectory(prefix="palimpsest-documents-") as scratch:
            found = [day.file("overlaps.parquet") for day in overlaps] or decontamination.none_found(Path(scratch))
            inputs = {table: [day.file(f"{table}.parquet") for day in days] for table in ("pages", "quarantine")}
            inputs["overlaps"] = found
            inputs["comparisons"] = comparisons.known(dataset, lake, measured, Path(scratch))
            _check_measured(corpus, days)
            warehouse.build(" ".join(select), inputs=inputs, variables=config, out=directory)
        rows, funnel = _counts(directory, days)
        return Facts(rows, {"funnel": funnel, comparisons.KEY: measured})

    parents = [*days, *overlaps]
    return lake.publish(dataset, write, config=config, parents=parents, code=CODE)


def admitted_documents(corpus: str, lake: Lake) -> Published:
    """The newest documents of a corpus that its gate let through; what a study may use."""
    verdict = lake.latest(f"corpora/{corpus}/gate")
    parent = next(p for p in verdict.manifest["parents"] if p["dataset"] == f"corpora/{corpus}/documents")
    return lake.open(parent["uri"], parent["digest"])


def _inside(day: Published, corpus: Corpus) -> bool:
    return corpus.start.isoformat() <= day.dataset.rsplit("/", 1)[1] <= corpus.end.isoformat()


def _check_measured(corpus: Corpus, days: list[Published]) -> None:
    """Refuse days that were extracted before the corpus file asked for what is to be counted."""
    asked = {"section cleaning": corpus.cleaning.columns}
    if corpus.documents.definitions == "datatrove":
        asked["documents.definitions"] = datatrove.COLUMNS.names
    asked["scoring.models"] = [COLUMN.format(name) for name in corpus.scoring.models]
    for day, (key, columns) in itertools.product(days, asked.items()):
        missing = set(columns) - set(pq.read_schema(day.file("pages.parquet")).names)
        if missing:
            raise LakeError(
                f"{day.dataset} has no {', '.join(sorted(missing))}: it was extracted before {corpus.path} asked "
                f"for it ({key}); extract it again: python -m palimpsest ingest {corpus.name}"
            )


def _counts(directory: Path, days: list[Published]) -> tuple[Rows, dict[str, object]]:
    """The balance of the rows, and the funnel of all days together."""
    with duckdb.connect() as connection:
        kept, words, sites = connection.execute(
            "select count(*), coalesce(sum(words), 0)::bigint, count(distinct site) from read_parquet(?)",
            [str(directory / "documents.parquet")],
        ).fetchone()
        drops = connection.execute(
            "select reason, rule, count(*) from read_parquet(?) group by all order by all",
            [str(directory / "document_drops.parquet")],
        ).fetchall()
        changes = _changes(connection, directory)
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
        **changes,
    }
    return Rows(pages, kept, dropped=dict(reasons)), funnel


def _changes(connection: duckdb.DuckDBPyConnection, directory: Path) -> dict[str, dict[str, int]]:
    """What was cut and redacted in the documents together, where the corpus asks for it."""
    file = directory / f"{CHANGES}.parquet"
    if not file.exists():
        return {}
    names = [name for name in pq.read_schema(file).names if name.endswith(("_cut", "_lost")) or name.startswith("pii_")]
    sums = ", ".join(f"sum({name})::bigint" for name in names)
    found = connection.execute(f"select {sums} from read_parquet(?)", [str(file)]).fetchone()
    return {"changes": {name: count for name, count in zip(names, found, strict=True) if count is not None}}
