"""The generation ledger: append-only, content-keyed, shared by all studies. What it holds is never paid for twice.

A segment is one Parquet file named by the digest of its bytes, written beside and renamed into place, so a crash
leaves either the whole segment or none. A segment whose bytes no longer match its name is set aside under
``ledger/damaged/`` and its rows count as not generated.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest.generate.requests import Outcome
from palimpsest.lake import Lake

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),  # null: the engine could not answer; see cause
        ("cause", pa.string()),
        ("detail", pa.string()),
        ("finish_reason", pa.string()),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("engine_seconds", pa.float64()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
    ]
)


def request_key(document: str, prompt: str, model: str, sampling: Mapping[str, object], sample: int) -> str:
    """Identity of one generation: any change to what the engine would see or do is another key."""
    content = json.dumps([document, prompt, model, dict(sampling), sample], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class Ledger:
    """All generations ever made in this lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.base = f"{lake.base}/ledger"

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Make these outcomes durable as one segment, all or none."""
        if not outcomes:
            return
        table = pa.Table.from_pylist([vars(o) for o in outcomes], SCHEMA)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        content = buffer.getvalue()
        self.lake.write_file(f"ledger/segments/{hashlib.sha256(content).hexdigest()}.parquet", content)

    def read(self, keys: Iterable[str] | None = None) -> pa.Table:
        """One row per key (a text wins over a failure), for ``keys`` or all."""
        wanted = None if keys is None else pa.array(sorted(set(keys)), pa.string())
        tables = [SCHEMA.empty_table()]
        for segment in self._segments():
            table = pq.read_table(io.BytesIO(segment), schema=SCHEMA)
            tables.append(table if wanted is None else table.filter(pc.is_in(table["key"], wanted)))
        rows = pa.concat_tables(tables)
        rows = rows.append_column("failed", pc.is_null(rows["text"]))
        rows = rows.sort_by([("key", "ascending"), ("failed", "ascending"), ("text", "ascending")]).drop_columns(
            ["failed"]
        )
        column = rows["key"].combine_chunks()
        if len(column) < 2:
            return rows
        first = pa.concat_arrays([pa.array([True]), pc.not_equal(column[1:], column[:-1])])
        return rows.filter(first)

    def done(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that have a text."""
        rows = self.read(keys)
        return set(rows.filter(pc.is_valid(rows["text"]))["key"].to_pylist())

    def _segments(self) -> Iterable[bytes]:
        folder = f"{self.base}/segments"
        if not self.lake.fs.exists(folder):
            return
        for path in sorted(str(p) for p in self.lake.fs.ls(folder, detail=False) if str(p).endswith(".parquet")):
            try:
                content = self.lake.fs.cat_file(path)
            except FileNotFoundError:  # damaged, and set aside by another shard since the listing
                continue
            if hashlib.sha256(content).hexdigest() == path.rsplit("/", 1)[-1].removesuffix(".parquet"):
                yield content
                continue
            aside = f"{self.base}/damaged/{path.rsplit('/', 1)[-1]}"
            self.lake.fs.makedirs(f"{self.base}/damaged", exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another shard was first
                self.lake.fs.mv(path, aside)
            log.warning("ledger segment %s is damaged: moved to %s; its rows will be generated again", path, aside)
