"""What a fetched file holds, from a pass over all of it in which every checksum it carries was found to hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fastwarc.warc import ArchiveIterator

from palimpsest.fetch.transfer import Damaged
from palimpsest.ingest.records import PAGE_KINDS
from palimpsest.ingest.warc import TYPES, check_end, gzip_ends, record_date

DIGEST = "WARC-Block-Digest"


def check_warc(path: Path) -> dict[str, Any]:
    """``records`` by kind and ``days``, pages by day ('' without a date).

    Raises `LakeError` for a file that is cut off, whose compression is damaged, or in which a record's block does not
    have the SHA-1 that its header gives.
    """
    kinds: Counter[str] = Counter()
    days: Counter[str] = Counter()
    last = 0
    with path.open("rb") as stream:
        head = stream.read(10)
        stream.seek(0)
        try:
            for record in ArchiveIterator(stream, parse_http=False):
                last, kind = record.stream_pos, TYPES.get(int(record.record_type), "unknown")
                kinds[kind] += 1
                if kind in PAGE_KINDS:
                    date = record_date(record)
                    days[date.date().isoformat() if date else ""] += 1
                expected = record.headers.get(DIGEST) or ""
                if expected.startswith("sha1:") and not record.verify_block_digest():
                    raise Damaged(f"the record at offset {last} has not the {DIGEST} {expected} that it names")
        except OSError as error:
            raise Damaged(f"damaged after offset {last}: {error}") from None
    if not kinds:
        raise Damaged(f"not a WARC file, or without a record: it begins with {head!r}")
    check_end(path.name, path, last, head)
    return {"records": dict(sorted(kinds.items())), "days": dict(sorted(days.items()))}


def check_table(path: Path) -> dict[str, Any]:
    """Nothing to tell. Raises `LakeError` for Parquet without its footer, gzip that is cut off, an empty file."""
    if path.suffix == ".parquet":
        try:
            pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            raise Damaged(f"no Parquet file: {error}") from None
    elif path.suffix == ".gz" and not gzip_ends(path, 0):
        raise Damaged("the gzip stream is damaged or cut off")
    elif not path.stat().st_size:
        raise Damaged("the file is empty")
    return {}
