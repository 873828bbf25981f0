"""What the gates judge: small profile tables that DuckDB aggregates from published Parquet.

One row per table, row balance, corpus, strategy, layout or recipe. Whatever the study file names has a row even if
the data has nothing for it, so that an absent layout shows as zero megadocs and not as silence.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from expectations.contracts import Contract, differences
from expectations.overlap import source_overlaps, validation_leaks
from palimpsest.align import WEIGHTS
from palimpsest.config import Corpus, Study
from palimpsest.generate.review import DEFECTS
from palimpsest.generate.review.facts import NEAR_COPY_WORDS
from palimpsest.lake import LakeError, Published

SQL = Path(__file__).parent / "sql"


def connect(published: Mapping[str, Published]) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with a view per table, each a Parquet file of its dataset; it spills to the temp folder."""
    settings = {"temp_directory": tempfile.gettempdir(), "autoinstall_known_extensions": "false", "TimeZone": "UTC"}
    connection = duckdb.connect(config=settings)
    for name, dataset in published.items():
        stated_rows(dataset, name)
        connection.read_parquet(str(dataset.file(f"{name}.parquet"))).create_view(name)
    connection.execute((SQL / "macros.sql").read_text())
    return connection


def tables(
    connection: duckdb.DuckDBPyConnection, contracts: Mapping[str, Contract], published: Mapping[str, Published]
) -> pd.DataFrame:
    """Per table: how it differs from its contract and its manifest, and rows without a key of their own."""
    rows = []
    for name, contract in contracts.items():
        wrong, other = differences(connection, name, contract)
        found = connection.execute(f"select count(*) from {name}").fetchall()[0][0]
        stated = stated_rows(published[name], name)
        rows.append(
            {
                "table": name,
                "rows": found,
                "row_difference": found - stated,
                "row_detail": f"{found:,} rows found, {stated:,} stated",
                "wrong_columns": len(wrong),
                "wrong": "; ".join(wrong),
                "other_columns": len(other),
                "other": ", ".join(other),
                "repeated_keys": 0 if wrong else found - _distinct(connection, name, contract),
                "keyed_by": f"keyed by {', '.join(contract.key)}",
            }
        )
    return pd.DataFrame(rows)


def stated_rows(published: Published, table: str) -> int:
    """Rows of a table as its dataset's manifest states them."""
    for file in published.manifest["files"]:
        if file["name"] == f"{table}.parquet":
            return file["rows"]
    raise LakeError(f"{published.uri} holds no {table}.parquet; run the stage that makes it again")


def balances(stated: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """Per balance: the two sides that must be equal, and their difference."""
    return pd.DataFrame(
        {"balance": name, "difference": right - left, "detail": f"{left:,} = {right:,} is not so"}
        for name, (left, right) in stated.items()
    )


def manifest_balances(published: Published) -> dict[str, tuple[int, int]]:
    """Balances a dataset's manifest makes possible: rows in against rows kept, dropped and quarantined."""
    rows = published.manifest["rows"]
    if rows is None:
        return {}
    name = published.dataset.rsplit("/", 1)[1]
    lost = sum(rows["dropped"].values()) + sum(rows["quarantined"].values())
    return {f"{name}: in = kept + dropped + quarantined": (rows["input"], rows["kept"] + lost)}


def documents(connection: duckdb.DuckDBPyConnection, corpus: Corpus) -> pd.DataFrame:
    return connection.execute(
        (SQL / "documents.sql").read_text(), {"corpus": corpus.name, "language": corpus.documents.language}
    ).df()


def generations(connection: duckdb.DuckDBPyConnection, study: Study) -> pd.DataFrame:
    asked = [(name, s.kind, s.samples) for name, s in study.strategies.items()]
    connection.register("asked_strategies", pd.DataFrame(asked, columns=["strategy", "kind", "generations"]))
    connection.register("near_copies", source_overlaps(connection, NEAR_COPY_WORDS))
    query = (SQL / "generations.sql").read_text()
    return connection.execute(query, {"near_copy_overlap": study.gates.near_copy_overlap}).df()


def defects(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """What the review found and what became of it; after `generations`, whose strategies it reads."""
    connection.register("review_defects", pd.DataFrame({"defect": DEFECTS}))
    return connection.execute((SQL / "defects.sql").read_text()).df()


def megadocs(connection: duckdb.DuckDBPyConnection, study: Study, weights: Published | None = None) -> pd.DataFrame:
    """``weights`` say what aligned layouts left out (`palimpsest.align`)."""
    asked = [
        {
            "layout": name,
            "strategy": strategy,
            "generations": study.first_of(layout, strategy) if strategy else 0,
            "holds_real": layout.kind == "real" or layout.real != "none",
            "holds_reserve": layout.kind == "real",
        }
        for name, layout in study.layouts.items()
        for strategy in layout.strategies or [""]
    ]
    connection.register("asked_layouts", pd.DataFrame(asked))
    weighed = pq.read_table(weights.file("weights.parquet")) if weights else WEIGHTS.empty_table()
    connection.register("left_out", weighed.filter(pc.invert(weighed["keeps"])))
    connection.register("leaks", validation_leaks(connection, study.gates.validation_ngram))
    return connection.execute((SQL / "megadocs.sql").read_text()).df()


def mixes(connection: duckdb.DuckDBPyConnection, study: Study) -> pd.DataFrame:
    connection.register("asked_mixes", pd.DataFrame({"recipe": list(study.mixes)}))
    return connection.execute((SQL / "mixes.sql").read_text(), {"real_layout": study.real_layout}).df()


def _distinct(connection: duckdb.DuckDBPyConnection, table: str, contract: Contract) -> int:
    present = " and ".join(f"{column} is not null" for column in contract.key if column not in contract.unknown)
    query = f"select count(*) from (select distinct {', '.join(contract.key)} from {table} where {present})"
    return connection.execute(query).fetchall()[0][0]
