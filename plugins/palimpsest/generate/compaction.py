"""Small segments merged into large ones: a commit a second makes 86,400 files a day, which no reader should open.

Safe at every instant and against another compactor: a merged segment is durable, and was read back, before the first
of those it replaces is deleted, and only segments that were read whole are deleted. A crash in between leaves rows
twice, which readers tolerate and the next merge removes.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.durable import make_directory, partial_beside
from palimpsest.generate.segments import GROUP_ROWS, SCHEMA, Row, Segments, Vanished, preference, rows_of

log = logging.getLogger(__name__)

SMALL_BYTES = 32 * 2**20
"""Segments below are merged; each row is copied about four times until it lies in one that is not."""
MERGED_BYTES = 128 * 2**20


def compact(segments: Segments, pile: int = 2) -> dict[str, int]:
    """Merge small segments into large ones if there are at least ``pile``: segments merged, segments written."""
    small = {name: size for name, size in segments.list().items() if size < SMALL_BYTES}
    counts = Counter(merged=0, written=0)
    if len(small) >= pile:
        for group in _groups(small):
            try:
                counts.update(merged=len(group), written=_merge(segments, group))
            except Vanished:
                log.info("ledger segments are being merged by another process; left to it")
                break
    return dict(counts)


def _groups(small: dict[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name, bytes_ in small.items():
        if size + bytes_ > MERGED_BYTES and len(group) > 1:
            yield group
            group, size = [], 0
        group.append(name)
        size += bytes_
    if len(group) > 1:
        yield group


def _merge(segments: Segments, group: Sequence[str]) -> int:
    """One segment with the rows of these, each key once."""
    counts: Counter[str] = Counter()
    sound = []
    for name, file in _opened(segments, group, lost_is_fine=True):  # a damaged one is set aside, and its rows with it
        for batch in rows_of(file, None, ["key"]):
            counts.update(batch["key"].to_pylist())
        sound.append(name)
    if not sound:
        return 0
    repeated = {key for key, count in counts.items() if count > 1}
    single = counts.keys() - repeated if repeated else None
    best: dict[str, Row] = {}
    if repeated:
        for _, file in _opened(segments, sound):
            for batch in rows_of(file, repeated, SCHEMA.names):
                for row in batch.to_pylist():
                    known = best.get(row["key"])
                    if known is None or preference(row) < preference(known):
                        best[row["key"]] = row
    with _scratch(segments) as partial:
        with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
            for table in _row_groups(segments, sound, single, [best[key] for key in sorted(best)]):
                writer.write_table(table, row_group_size=GROUP_ROWS)
        merged = segments.put(partial)
    for name in sound:
        if name != merged:
            segments.delete(name)
    return 1


def _row_groups(segments: Segments, names: Sequence[str], keys: set[str] | None, last: list[Row]) -> Iterator[pa.Table]:
    held = pa.Table.from_batches([], SCHEMA)
    for _, file in _opened(segments, names):
        for batch in rows_of(file, keys, SCHEMA.names):
            held = pa.concat_tables([held, pa.Table.from_batches([batch])])
            if held.num_rows >= GROUP_ROWS:
                yield held
                held = held.slice(held.num_rows)
    yield pa.concat_tables([held, pa.Table.from_pylist(last, SCHEMA)])


def _opened(
    segments: Segments, names: Sequence[str], lost_is_fine: bool = False
) -> Iterator[tuple[str, pq.ParquetFile]]:
    for name in names:
        file = segments.open(name)
        if file is None:
            if lost_is_fine:
                continue
            raise Vanished(name)
        try:
            yield name, file
        finally:
            file.close(force=True)


@contextmanager
def _scratch(segments: Segments) -> Iterator[Path]:
    """Where to write a merged segment: beside its place in a local lake, so that it only has to be renamed."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-ledger-") as folder:
        beside = Path(segments.folder, "merged") if segments.lake.local else Path(folder, "merged")
        make_directory(beside.parent)
        partial = partial_beside(beside)
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)
