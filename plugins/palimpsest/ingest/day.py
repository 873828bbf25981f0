"""One day's pages and quarantine on their way to disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.ingest.pages import QUARANTINE

# What is in memory per day and table: rows (quarantine holds payloads), and characters and bytes of what they hold.
ROW_GROUP = {"pages": 1_000, "quarantine": 100}
GROUP_SIZE = 32 << 20


class Day:
    """pages.parquet and quarantine.parquet in a new ``folder``; the same rows give the same bytes."""

    def __init__(self, folder: Path, pages: pa.Schema) -> None:
        self.folder = folder
        self.kinds: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.kept = 0
        self.ids: set[str] = set()
        folder.mkdir()
        self._tables = {"pages": pages, "quarantine": QUARANTINE}
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in self._tables}
        self._sizes = dict.fromkeys(self._tables, 0)
        self._writers: dict[str, pq.ParquetWriter] = {}

    def keep(self, row: dict[str, Any]) -> None:
        self.ids.add(row["page_id"])
        self.kept += 1
        self._add("pages", row)

    def quarantine(self, row: dict[str, Any]) -> None:
        self.causes[row["cause"]] += 1
        self._add("quarantine", row)

    def close(self) -> None:
        for table in self._tables:
            self._flush(table)
            self._writers.pop(table).close()

    def _add(self, table: str, row: dict[str, Any]) -> None:
        self._rows[table].append(row)
        self._sizes[table] += sum(len(value) for value in row.values() if isinstance(value, str | bytes | list))
        if len(self._rows[table]) == ROW_GROUP[table] or self._sizes[table] >= GROUP_SIZE:
            self._flush(table)

    def _flush(self, table: str) -> None:
        schema = self._tables[table]
        if table not in self._writers:
            self._writers[table] = pq.ParquetWriter(self.folder / f"{table}.parquet", schema, compression="zstd")
        if self._rows[table]:
            self._writers[table].write_table(pa.Table.from_pylist(self._rows[table], schema=schema))
            self._rows[table], self._sizes[table] = [], 0
