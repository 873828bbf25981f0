"""The records of an ARC file (version 1 or 2, plain or gzip), the format of crawls before WARC.

https://archive.org/web/researcher/ArcFileFormat.php: a line of fields, then so many bytes as its last field says.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import BinaryIO

from palimpsest.ingest.blocks import DIGITS
from palimpsest.ingest.framing import Members
from palimpsest.ingest.http import HEADERS, read_message
from palimpsest.ingest.records import Record, without_user

MAGIC = b"filedesc://"
FIELDS = {b"1": 5, b"2": 10}
"""By version: address, IP, date, media type, (of 2: status, checksum, location, offset, file,) length."""


def is_arc(stream: BinaryIO) -> bool:
    """Whether the file begins as an ARC file does; the stream is at its start again."""
    try:
        first = Members(stream).readline()
    except OSError:
        first = b""
    stream.seek(0)
    return first.startswith(MAGIC)


def read_arc(stream: BinaryIO, limit: int) -> Iterator[Record]:
    """Every record in file order, http(s) ones as 'response', the head of the file as 'warcinfo', others 'resource'.

    Raises `OSError` for a file that is damaged or cut off, with what is wrong.
    """
    members = Members(stream)
    fields = FIELDS[b"1"]
    while line := members.readline():
        if not line.strip():  # between records
            continue
        offset = members.offset
        parts = line.rstrip(b"\r\n").rsplit(b" ", fields - 1)  # an address may hold spaces
        if line.startswith(MAGIC) and len(parts) != fields:
            parts = line.split()  # a head in the layout of the other version
        if len(parts) not in FIELDS.values() or not parts[-1].isdigit() or len(parts[-1]) > DIGITS:
            raise OSError(f"no ARC record at offset {offset}: {line[:60]!r}")
        length = int(parts[-1])
        block = members.read(length, limit + HEADERS)
        if members.spans_more():
            raise OSError(f"the length of the record at offset {offset} spans another one")
        url = without_user(parts[0].decode(errors="replace"))
        if line.startswith(MAGIC):
            version = block.split(b" ", 1)[0]
            fields = FIELDS.get(version, 0)
            if not fields:
                raise OSError(f"ARC version {version[:20]!r} is not known")
            yield Record("warcinfo", offset, url, _date(parts[2]))
            continue
        if not url.lower().startswith(("http://", "https://")):
            yield Record("resource", offset, url, _date(parts[2]))
            continue
        record = Record("response", offset, url, _date(parts[2]))
        read_message(record, block, limit)
        yield record


def _date(value: bytes) -> dt.datetime | None:
    """YYYYMMDDhhmmss, in UTC."""
    try:
        return dt.datetime.strptime(value.decode(), "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
