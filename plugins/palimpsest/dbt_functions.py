"""Functions of the tables' SQL that are Python's; dbt-duckdb loads this module by the profile."""

from __future__ import annotations

import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from duckdb import DuckDBPyConnection

from palimpsest.ingest import minhash


class Plugin(BasePlugin):
    """``minhash_bands(text, shingle_words, jaccard)``: `minhash.bands` of every text, a list of bigint."""

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        conn.create_function(
            "minhash_bands", _bands, ["VARCHAR", "INTEGER", "DOUBLE"], "BIGINT[]", type="arrow", side_effects=False
        )


def _bands(texts: pa.ChunkedArray, words: pa.ChunkedArray, jaccard: pa.ChunkedArray) -> pa.Array:
    rows = zip(texts.to_pylist(), words.to_pylist(), jaccard.to_pylist(), strict=True)
    return pa.array([minhash.bands(*row) for row in rows], pa.list_(pa.int64()))
