"""The records of a damaged WARC file that can still be read, and one record of kind 'damage' per stretch that cannot.

Reading takes up again at the next place that begins a WARC record. The record before the damage is not trusted, since
a reader notices a cut only after it: it comes as damage with its bytes. So a file ends in pages and in quarantine, and
what the quarantine names can be looked at, whatever happened to the file.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from palimpsest.ingest.records import Record
from palimpsest.ingest.sources import SourceFile
from palimpsest.ingest.warc import read_records
from palimpsest.lake import LakeError

GZIP_MEMBER, PLAIN_RECORD = b"\x1f\x8b\x08", b"WARC/"
CHUNK = 1 << 20
HEADER = re.compile(rb"WARC/1\.[01]\r\n[A-Za-z-]+:")
SHOWN = 1 << 16  # bytes of a damaged stretch that its record carries


def salvage_records(file: SourceFile, limit: int) -> Iterator[Record]:
    """Every readable record in file order, and the damage. Never raises for what the file holds."""
    start = 0
    with tempfile.TemporaryDirectory(prefix="palimpsest-salvage-") as scratch:
        while True:
            held: Record | None = None
            tail = _from(file, start, Path(scratch))
            try:
                for record in read_records(tail, limit):
                    record.offset += start
                    if held:
                        yield held
                    held = record
            except LakeError as error:
                suspect = held.offset if held else start
                yield _damage(file, suspect, held, _what(error, file, start))
                after = _next_record(file.path, suspect + 1)
                if after is None:
                    return
                start = after
                continue
            if held:
                yield held
            return


def _from(file: SourceFile, start: int, scratch: Path) -> SourceFile:
    """The file from ``start`` on: the reader checks a file's end, so it gets a file."""
    if start == 0:
        return file
    rest = scratch / "rest"
    with file.path.open("rb") as whole, rest.open("wb") as out:
        whole.seek(start)
        shutil.copyfileobj(whole, out)
    return SourceFile(file.name, rest)


def _what(error: LakeError, file: SourceFile, start: int) -> str:
    said = str(error).removeprefix(f"{file.name}: ").split(";")[0]
    return f"{said} (offsets count from {start})" if start else said


def _damage(file: SourceFile, offset: int, suspect: Record | None, said: str) -> Record:
    with file.path.open("rb") as stream:
        stream.seek(offset)
        raw = stream.read(SHOWN)
    return Record(
        "damage", offset, suspect.url if suspect else "", suspect.date if suspect else None,
        payload=raw, cause="damaged", fault=said,
    )  # fmt: skip


def _next_record(path: Path, start: int) -> int | None:
    """Where the next readable record begins at or after ``start``: a gzip member that holds one, or its header."""
    with path.open("rb") as stream:
        mark = GZIP_MEMBER if stream.read(2) == GZIP_MEMBER[:2] else PLAIN_RECORD
        stream.seek(start)
        at, kept = start, b""
        while block := stream.read(CHUNK):
            window = kept + block
            found = window.find(mark)
            while found >= 0:
                if _begins(path, at - len(kept) + found, mark):
                    return at - len(kept) + found
                found = window.find(mark, found + 1)
            at += len(block)
            kept = window[-len(mark) + 1 :]
    return None


def _begins(path: Path, offset: int, mark: bytes) -> bool:
    with path.open("rb") as stream:
        stream.seek(offset)
        head = stream.read(4096)
    if mark == PLAIN_RECORD:
        return HEADER.match(head) is not None
    try:
        return zlib.decompressobj(wbits=31).decompress(head, len(PLAIN_RECORD)) == PLAIN_RECORD
    except zlib.error:
        return False
