"""The plan's tables: their columns, and reading and writing them and the documents a few rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest.lake import Published

DOCUMENTS = 128
"""Documents read at a time."""
BATCH = 65_536
"""Rows written at a time."""
REQUESTS = pa.schema(
    [
        ("key", pa.string()),
        ("document_id", pa.string()),
        ("url", pa.string()),
        ("strategy", pa.string()),
        ("kind", pa.string()),
        ("g", pa.int32()),
        ("part", pa.int32()),
        ("parts", pa.int32()),
        ("group", pa.string()),  # the key without its sample; empty for engines that are not asked in words
        ("lane", pa.int32()),
        ("shard", pa.int32()),
        ("seed", pa.int64()),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("prompt_sha256", pa.string()),
        ("input_tokens", pa.int32()),
        ("max_tokens", pa.int32()),
        ("expected_tokens", pa.int32()),
        ("input_truncated", pa.bool_()),
        ("view_before", pa.int32()),  # characters of the document: what leads up to the text, the text, its end
        ("view_start", pa.int32()),
        ("view_end", pa.int32()),
    ]
)
SLICES = pa.schema(
    [
        ("document_id", pa.string()),
        ("strategy", pa.string()),
        ("slice", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.int64()),
    ]
)


class Writer:
    """A Parquet file written some rows at a time."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self.writer = pq.ParquetWriter(file, schema, compression="zstd")
        self.columns: dict[str, list] = {name: [] for name in schema.names}

    def add(self, columns: Mapping[str, list], same: Mapping[str, object]) -> None:
        """Rows with these columns, and these values on every row."""
        for name, values in columns.items():
            self.columns[name] += values
            rows = len(values)
        for name, value in same.items():
            self.columns[name] += itertools.repeat(value, rows)
        if len(self.columns[self.schema.names[0]]) >= BATCH:
            self._flush()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self.writer.close()

    def _flush(self) -> None:
        arrays = [pa.array(self.columns[field.name], field.type) for field in self.schema]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.columns = {name: [] for name in self.schema.names}


def planned_rows(plan: Published, names: Sequence[str], shard: int | None = None) -> Iterator[dict]:
    """These columns of the plan's requests, of one shard or all, in the plan's order."""
    columns = [*names, "shard"]
    with pq.ParquetFile(plan.file("requests.parquet"), buffer_size=1 << 20) as file:
        for batch in file.iter_batches(batch_size=8192, columns=columns):
            yield from (batch if shard is None else batch.filter(pc.equal(batch["shard"], shard))).to_pylist()


def training_documents(split: Published) -> Iterator[list[dict]]:
    """The training documents that mixes may use, a few at a time."""
    with pq.ParquetFile(split.file("train.parquet"), buffer_size=1 << 20) as file:
        for batch in file.iter_batches(batch_size=DOCUMENTS, columns=["document_id", "url", "text", "is_reserve"]):
            yield batch.filter(pc.invert(batch["is_reserve"])).drop_columns(["is_reserve"]).to_pylist()
