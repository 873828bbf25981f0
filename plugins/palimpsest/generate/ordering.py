"""Ledger rows put in the order of a plan, in bounded memory.

The places are cut into ranges, a temporary file each; one pass over the ledger deals the rows out, and then one range
at a time is put in order in memory. (DuckDB's sort needs the texts' own size in memory: half a gigabyte was not
enough for a million of them.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from palimpsest.generate.segments import SCHEMA, Row, preference

RANGE_ROWS = 8_192
MAX_RANGES = 256
"""Files open at once: of more places the ranges grow."""
DEAL_BYTES = 64 * 2**20
"""Rows gathered before they are dealt out: fewer would make crumbs."""
PLACED = SCHEMA.append(pa.field("place", pa.int64()))


def in_order(
    batches: Callable[[Container[str]], Iterator[pa.RecordBatch]], keys: Iterable[str]
) -> Iterator[Row | None]:
    """The row of each key, in the order given and as often as given; None where there is none.

    ``batches(keys)`` gives the rows in any order, some of them perhaps twice.
    """
    places: dict[str, int | list[int]] = {}
    total = 0
    for key in keys:
        known = places.get(key)
        if known is None:
            places[key] = total
        else:
            places[key] = [*(known if isinstance(known, list) else [known]), total]
        total += 1
    size = max(RANGE_ROWS, -(-total // MAX_RANGES))
    with tempfile.TemporaryDirectory(prefix="palimpsest-ledger-") as scratch:
        files = [Path(scratch, f"{number}.arrow") for number in range(-(-total // size))]
        with ExitStack() as stack:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            writers = [stack.enter_context(pa.ipc.new_stream(str(file), PLACED, options=options)) for file in files]
            for table in _gathered(batches(places)):
                for number, rows in _dealt(_placed(table, places), size):
                    writers[number].write_table(rows)
        del places
        for number, file in enumerate(files):
            yield from _sorted(file, number * size, min(size, total - number * size))
            file.unlink()


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= DEAL_BYTES:
            yield pa.Table.from_batches(held, SCHEMA)
            held, size = [], 0
    yield pa.Table.from_batches(held, SCHEMA)


def _placed(table: pa.Table, places: dict[str, int | list[int]]) -> pa.Table:
    """The rows with their places; one that is wanted at several comes several times."""
    found = [places[key] for key in table["key"].to_pylist()]
    if any(isinstance(place, list) for place in found):
        several = [place if isinstance(place, list) else [place] for place in found]
        table = table.take(pa.array([n for n, group in enumerate(several) for _ in group], pa.int64()))
        found = [place for group in several for place in group]
    return table.append_column("place", pa.array(found, pa.int64()))


def _dealt(table: pa.Table, size: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each range of ``size`` places."""
    table = table.append_column("range", pc.divide(table["place"], size)).sort_by("range")
    ends = pc.run_end_encode(table["range"].combine_chunks())
    start = 0
    for number, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
        yield number, table.slice(start, end - start).drop_columns("range")
        start = end


def _sorted(file: Path, first: int, count: int) -> Iterator[Row | None]:
    found: list[Row | None] = [None] * count
    with pa.ipc.open_stream(str(file)) as stream:
        for batch in stream:
            for row in batch.to_pylist():
                place = row.pop("place") - first
                known = found[place]
                if known is None or preference(row) < preference(known):
                    found[place] = row
    yield from found
