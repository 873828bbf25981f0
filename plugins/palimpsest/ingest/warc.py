"""The records of a WARC file (plain or gzip), or a `LakeError` that says where the file is damaged.

fastwarc stops without a word at a cut-off member, so the end of the file is checked here before any record is used.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType, response

from palimpsest.ingest.records import Record
from palimpsest.ingest.sources import SourceFile
from palimpsest.lake import LakeError

GZIP = b"\x1f\x8b"
CHUNK = 1 << 20
SHORT = "short"  # cause of a record whose declared length runs over the end of the file
HEADERS = 1 << 16  # bytes a record may hold beside its body
TYPES = {int(getattr(WarcRecordType, n)): n for n in (
    "warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation", "unknown",
)}  # fmt: skip


def read_records(file: SourceFile, limit: int) -> Iterator[Record]:
    """Every record in file order. ``offset`` is where a reader can start: a byte of the file as it lies on disk."""
    last, records, short = 0, 0, ""
    with file.path.open("rb") as stream:
        head = stream.read(10)
        if not head:
            raise LakeError(f"{file.name}: the file is empty (0 bytes); fetch it again or remove it from source.files")
        if not (head.startswith((GZIP, b"WARC/"))):
            raise LakeError(
                f"{file.name}: not a WARC file: it begins with {head!r} at offset 0, expected 'WARC/' or gzip; "
                "convert it (warcio recompress) or remove it from source.files"
            )
        stream.seek(0)
        try:
            for found in ArchiveIterator(stream, parse_http=False):
                last, records = found.stream_pos, records + 1
                record = _record(found, limit)
                short = record.fault if record.cause == SHORT else short
                yield record
        except OSError as error:
            raise LakeError(
                f"{file.name}: damaged after offset {last}: {error}; fetch the file again (nothing of it was published)"
            ) from None
    _check_end(file, last, gzipped=head.startswith(GZIP))
    if short:  # the reader took what followed for the record's own bytes
        raise LakeError(
            f"{file.name}: damaged after offset {last}: {short}; fetch the file again (nothing of it was published)"
        )
    if not records:
        raise LakeError(f"{file.name}: the file holds no record; fetch it again or remove it from source.files")


def _record(found: WarcRecord, limit: int) -> Record:
    kind = TYPES.get(int(found.record_type), "unknown")
    record = Record(kind, found.stream_pos, found.headers.get("WARC-Target-URI") or "", _date(found))
    if kind != "response":
        return record
    record.url = record.url.strip("<> ")
    block = _read(found, limit + HEADERS)
    if len(block) < min(found.content_length, limit + HEADERS):
        record.cause = SHORT
        record.fault = f"the record says it has {found.content_length} bytes, but only {len(block)} follow"
        return record
    if not found.is_http:
        record.fault, record.payload = f"not an HTTP response ({found.headers.get('Content-Type')})", block
        return record
    try:
        message, record.payload = _http(block, limit + 1)
    except (OSError, ValueError) as error:
        record.fault, record.payload = str(error), block
        return record
    record.http_status = message.http_headers.status_code
    record.content_type = (message.http_content_type or "").lower()
    record.charset = (message.http_charset or "").lower()
    return record


def _http(block: bytes, size: int) -> tuple[WarcRecord, bytes]:
    """The HTTP message and its body, decoded if it is encoded as it says (many archives keep the header but not the
    encoding). Read apart from the file, whose reader a body that will not decode would end.
    """
    try:
        return _decoded(block, size, "all")
    except OSError as error:
        message, body = _decoded(block, size, "transfer")
        if b"<" not in body[:1024]:
            raise ValueError(f"Content-Encoding {message.http_headers.get('Content-Encoding')}: {error}") from None
        return message, body


def _decoded(block: bytes, size: int, what: Literal["all", "transfer"]) -> tuple[WarcRecord, bytes]:
    message = WarcRecord()
    message.init_headers(response)
    message.set_bytes_content(block)
    message.is_http = True
    message.parse_http(auto_decode=what)
    if message.http_headers is None or message.http_headers.status_code is None:
        raise ValueError("no HTTP status line")
    return message, _read(message, size)


def _read(found: WarcRecord, size: int) -> bytes:
    """Up to ``size`` bytes: one read returns less where a body comes in chunks."""
    parts: list[bytes] = []
    while size > 0 and (part := found.reader.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _date(found: WarcRecord) -> dt.datetime | None:
    value = found.headers.get("WARC-Date") or ""
    try:
        date = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
        return date.astimezone(dt.UTC) if date.tzinfo else date.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None


def _check_end(file: SourceFile, last: int, *, gzipped: bool) -> None:
    """Raise unless the file ends where its last record does."""
    size = file.path.stat().st_size
    if gzipped:
        complete = _gzip_ends(file.path, last) or (last > 0 and _gzip_ends(file.path, 0))
    else:
        complete = _plain_ends(file.path, last)
    if not complete:
        raise LakeError(
            f"{file.name}: truncated: the record at offset {last} does not end before the end of the file "
            f"(offset {size}); fetch the file again (nothing of it was published)"
        )


def _gzip_ends(path: Path, start: int) -> bool:
    """Whether the bytes from ``start`` are whole gzip members; ``start`` may lie inside one (then False)."""
    with path.open("rb") as stream:
        stream.seek(start)
        member = zlib.decompressobj(wbits=31)
        pending, fresh = b"", True
        try:
            while data := pending or stream.read(CHUNK):
                pending, fresh = b"", False
                member.decompress(data)
                if member.eof:
                    pending, fresh = member.unused_data, True
                    member = zlib.decompressobj(wbits=31)
        except zlib.error:
            return False
    return fresh


def _plain_ends(path: Path, start: int) -> bool:
    with path.open("rb") as stream:
        stream.seek(start)
        length = 0
        for line in stream:
            if line in (b"\r\n", b"\n"):
                break
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":", 1)[1])
        stream.seek(length, 1)
        return stream.read(4) == b"\r\n\r\n"
