"""The records of a WARC or ARC file, or a `LakeError` that says where the file is damaged.

fastwarc stops without a word at a cut-off member, so the end of the file is checked here before any record is used.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from palimpsest.ingest.arc import is_arc, read_arc
from palimpsest.ingest.blocks import NotSound
from palimpsest.ingest.framing import codec, ends_whole, is_empty
from palimpsest.ingest.http import HEADERS, read_at_most, read_message
from palimpsest.ingest.records import Record, SourceFile, without_user
from palimpsest.ingest.spans import Spans
from palimpsest.lake import LakeError

TYPES = {int(getattr(WarcRecordType, n)): n for n in (
    "warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation", "unknown",
)}  # fmt: skip
AGAIN = "fetch the file again (nothing of it was published)"
OR_KEEP = ", or set source.damaged: quarantine to keep what can be read of it"


class Unreadable(LakeError):
    """A file that is damaged or cut off. ``reached``: how far it was read to find that out, a byte of the file."""

    def __init__(self, message: str, reached: int) -> None:
        super().__init__(message)
        self.reached = reached


def read_records(file: SourceFile, limit: int, start: int = 0) -> Iterator[Record]:
    """Every record in file order. ``offset`` is where a reader can start: a byte of the file as it lies on disk.

    ``start``: the offset of a record of a WARC file, to read from there on.
    """
    last, records = start, 0
    with file.path.open("rb") as stream:
        stream.seek(start)
        head = stream.read(10)
        if not head:
            raise LakeError(f"{file.name}: the file is empty (0 bytes); fetch it again or remove it from source.files")
        stream.seek(start)
        arc = not start and is_arc(stream)
        if not (arc or codec(head) or head.startswith(b"WARC/")):
            raise LakeError(
                f"{file.name}: not a WARC file: it begins with {head!r} at offset {start}, expected 'WARC/', "
                "'filedesc://' (ARC), gzip, zstd or LZ4; convert it (warcio recompress) or remove it from source.files"
                + OR_KEEP
            )
        try:
            for record in read_arc(stream, limit) if arc else _records(file.path, stream, limit):
                last, records = record.offset, records + 1
                yield record
        except OSError as error:
            said = f"{file.name}: damaged after offset {last}: {error}; {AGAIN}{OR_KEEP}"
            raise Unreadable(said, stream.tell()) from None
        reached = stream.tell()
    if not records and (arc or is_empty(file.path)):
        raise LakeError(f"{file.name}: the file holds no record; fetch it again or remove it from source.files")
    if not arc:
        try:
            check_end(file.name, file.path, last, records, start)
        except LakeError as error:
            raise Unreadable(str(error) + OR_KEEP, reached) from None


def _records(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record]:
    for found in whole_records(path, stream):
        yield _record(found, limit)


def whole_records(path: Path, stream: BinaryIO) -> Iterator[WarcRecord]:
    """What fastwarc finds in the file from where ``stream`` stands. Raises `OSError` behind a record that takes in the
    next one.
    """
    last = None
    with Spans(path, stream.tell()) as spans:
        for found in ArchiveIterator(stream, parse_http=False):
            if last is not None:
                spans.check(last, found.stream_pos)
            last = found.stream_pos
            yield found
        if last is not None:
            spans.check(last)


def _record(found: WarcRecord, limit: int) -> Record:
    kind = TYPES.get(int(found.record_type), "unknown")
    record = Record(kind, found.stream_pos, record_url(found), record_date(found))
    if kind == "conversion":  # a crawl's own plain text of a page (WET)
        record.content_type, record.charset, record.title = found.headers.get("Content-Type") or "", "utf-8", ""
        record.payload = read_at_most(found, limit + 1)
    if kind != "response":
        return record
    block = read_at_most(found, limit + HEADERS)
    if not found.is_http:
        record.fault, record.payload = f"not an HTTP response ({found.headers.get('Content-Type')})", block
        return record
    read_message(record, block, limit)
    return record


def record_url(found: WarcRecord) -> str:
    """Its WARC-Target-URI without the pair of brackets that some writers put around it and without a name and password;
    empty where it has none.
    """
    url = (found.headers.get("WARC-Target-URI") or "").strip(" ")
    return without_user(url[1:-1].strip(" ") if url.startswith("<") and url.endswith(">") else url)


def record_date(found: WarcRecord) -> dt.datetime | None:
    """Its WARC-Date in UTC; None for what cannot be read as one."""
    value = found.headers.get("WARC-Date") or ""
    try:
        date = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
        return date.astimezone(dt.UTC) if date.tzinfo else date.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None


def check_end(name: str, path: Path, last: int, records: int, start: int = 0) -> None:
    """Raise `LakeError` unless the file ends where its record at offset ``last``, of so many ``records`` from ``start``
    on, does.
    """
    try:
        whole = ends_whole(path, last, records, start)
    except NotSound as error:
        raise LakeError(f"{name}: damaged: {error}; {AGAIN}") from None
    if not whole:
        raise LakeError(
            f"{name}: truncated: the last record that can be read (at offset {last} of the file) does not end where "
            f"the file does (offset {path.stat().st_size}); {AGAIN}"
        )
