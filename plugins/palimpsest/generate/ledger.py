"""The generation ledger: append-only, content-keyed, shared by all studies. What it holds is never paid for twice.

Its rows lie in segments (`palimpsest.generate.segments`). Readers meet one segment at a time, and may meet a row
twice while segments are merged; where rows of one key differ, the choice depends on the rows alone: a text wins over
a failure, then the smaller row does.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from palimpsest.generate.compaction import SMALL_BYTES, compact
from palimpsest.generate.ordering import in_order
from palimpsest.generate.requests import Outcome
from palimpsest.generate.segments import SCHEMA, Row, Segments, preference, rows_of, serialized
from palimpsest.generate.standing import Standing
from palimpsest.lake import Lake, LakeError


def request_key(document: str, prompt: str, model: str, sampling: Mapping[str, object], sample: int) -> str:
    """Identity of one generation: any change to what the engine would see or do is another key."""
    content = json.dumps([document, prompt, model, dict(sampling), sample], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class Ledger:
    """All generations ever made in this lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.segments = Segments(lake)

    def append(self, outcomes: Sequence[Outcome]) -> str | None:
        """Make these outcomes durable as one segment, all or none; the segment's name."""
        if not outcomes:
            return None
        for outcome in outcomes:
            if (outcome.text is None) == (outcome.cause is None):
                raise LakeError(
                    f"request {outcome.key}: engine '{outcome.engine}' answered with "
                    f"{'neither a text nor' if outcome.text is None else 'both a text and'} a cause; it is one of them"
                )
        return self.segments.write(serialized(pa.Table.from_pylist([vars(o) for o in outcomes], SCHEMA)))

    def batches(
        self, keys: Container[str] | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of ``keys``, or all, in no order, a row group at a time; a key may come more than once."""
        names = SCHEMA.names if columns is None else list(dict.fromkeys(["key", *columns]))
        for _, file in self.segments.verified():
            yield from rows_of(file, keys, names)

    def read(self, keys: Iterable[str] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per key in key order, for ``keys`` or all: in memory, so not for a million texts."""
        wanted = None if keys is None else set(keys)
        best: dict[str, Row] = {}
        for batch in self.batches(wanted):
            for row in batch.to_pylist():
                known = best.get(row["key"])
                if known is None or preference(row) < preference(known):
                    best[row["key"]] = row
        table = pa.Table.from_pylist([best[key] for key in sorted(best)], SCHEMA)
        return table if columns is None else table.select(list(columns))

    def done(self, keys: Iterable[str], replay: bool = False) -> set[str]:
        """Those of ``keys`` that need not be asked: they have a text or, unless ``replay``, failed for good."""
        standing = Standing(self.segments, keys)
        standing.update()
        return standing.done(replay)

    def failures(self, keys: Iterable[str] | None = None) -> pa.Table:
        """The rows of ``keys``, or all, that have a cause in place of a text."""
        wanted = None if keys is None else set(keys)
        failed: set[str] = set()
        for batch in self.batches(wanted, ["cause"]):
            failed.update(batch.filter(batch["cause"].is_valid())["key"].to_pylist())
        table = self.read(failed)
        return table.filter(table["text"].is_null())

    def in_order(self, keys: Iterable[str]) -> Iterator[Row | None]:
        """The row of each key, in the order given and as often as given; None where there is none.

        Bounded memory for any number of texts: what does not fit is sorted in a temporary folder.
        """
        return in_order(self.batches, keys)

    def stats(self) -> dict[str, Any]:
        """Segments, bytes, rows and keys; texts and tokens per model; failures without a text since, by cause."""
        sizes = self.segments.list()
        settings = {"autoinstall_known_extensions": "false", "memory_limit": "512MB"}
        with tempfile.TemporaryDirectory() as scratch, duckdb.connect(Path(scratch, "rows"), config=settings) as rows:
            rows.execute("create table rows (key varchar, cause varchar, model varchar, tokens bigint)")
            for batch in self.batches(columns=["cause", "model", "output_tokens"]):
                rows.register("batch", batch)
                rows.execute("insert into rows select * from batch").fetchall()
            rows.execute(
                "create table keys as select min(model) as model, min(cause) as cause, bool_or(cause is null) as made, "
                "max(tokens) as tokens, count(*) as rows from rows group by key"
            )
            models = rows.execute(
                "select model, count(*), coalesce(sum(tokens), 0)::bigint from keys where made group by 1 order by 1"
            ).fetchall()
            causes = rows.execute("select cause, count(*) from keys where not made group by 1 order by 1").fetchall()
            counts = rows.execute("select coalesce(sum(rows), 0)::bigint, count(*) from keys").fetchall()[0]
        return {
            "segments": len(sizes),
            "bytes": sum(sizes.values()),
            "rows": counts[0],
            "keys": counts[1],
            "models": {model: {"texts": texts, "output_tokens": tokens} for model, texts, tokens in models},
            "failures": dict(causes),
            "damaged": list(self.segments.damaged),
        }

    def small_segments(self) -> int:
        """How many segments are small enough to be merged."""
        return sum(size < SMALL_BYTES for size in self.segments.list().values())

    def compact(self, pile: int = 2) -> dict[str, int]:
        """Merge small segments into large ones if there are at least ``pile``: segments merged, segments written."""
        return compact(self.segments, pile)

    def verify(self) -> dict[str, Any]:
        """`stats`, after every value of every segment was read; a damaged one is set aside, as by any reader."""
        for _ in self.batches():
            pass
        return self.stats()
