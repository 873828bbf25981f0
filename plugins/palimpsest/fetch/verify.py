"""What a fetched file holds, from a pass over all of it in which every checksum it carries was found to hold."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.fetch.part import Damaged
from palimpsest.ingest.arc import is_arc
from palimpsest.ingest.blocks import CHUNK
from palimpsest.ingest.records import PAGE_KINDS, SourceFile
from palimpsest.ingest.warc import TYPES, check_end, read_records, record_date, whole_records
from palimpsest.table import opened

DIGEST = "WARC-Block-Digest"


def check_warc(path: Path) -> dict[str, Any]:
    """``records`` by kind and ``days``, pages by day ('' without a date), of a WARC or ARC file.

    Raises `LakeError` for a file that is cut off or whose compression is damaged, for a record that takes in the next
    one, and for one whose block does not have the SHA-1 that its header gives.
    """
    kinds: Counter[str] = Counter()
    days: Counter[str] = Counter()
    for kind, date in _kinds_and_dates(path):
        kinds[kind] += 1
        if kind in PAGE_KINDS:
            days[date.date().isoformat() if date else ""] += 1
    return {"records": dict(sorted(kinds.items())), "days": dict(sorted(days.items()))}


def _kinds_and_dates(path: Path) -> Iterator[tuple[str, dt.datetime | None]]:
    with path.open("rb") as stream:
        if is_arc(stream):  # no checksums in it
            yield from ((record.kind, record.date) for record in read_records(SourceFile(path.name, path), 0))
            return
        head, last, records = stream.read(10), None, 0
        stream.seek(0)
        try:
            for record in whole_records(path, stream) if head else ():
                last, records = record.stream_pos, records + 1
                expected = record.headers.get(DIGEST) or ""
                if expected.startswith("sha1:") and not record.verify_block_digest():
                    raise Damaged(f"the record at offset {last} has not the {DIGEST} {expected} that it names")
                yield TYPES.get(int(record.record_type), "unknown"), record_date(record)
        except OSError as error:
            raise Damaged(f"damaged after offset {last or 0}: {error}") from None
    if last is None:
        raise Damaged(f"not a WARC file, or without a record: it begins with {head!r}")
    check_end(path.name, path, last, records)


def check_table(path: Path) -> dict[str, Any]:
    """Nothing to tell. Raises `LakeError` for Parquet without its footer, a compressed stream cut off, no content."""
    if path.suffix == ".parquet":
        try:
            pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"no Parquet file: {error}") from None
        return {}
    with path.open("rb") as raw:
        try:
            content = opened(raw, path)
            if not content.read(1):
                raise Damaged("the file is empty")
            while content is not raw and content.read(CHUNK):
                pass
        except OSError as error:
            raise Damaged(f"the compressed stream is damaged or cut off: {error}") from None
    return {}
