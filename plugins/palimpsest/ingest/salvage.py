"""The records of a damaged crawl file that can still be read, and one record of kind 'damage' per stretch that cannot.

Reading takes up again at the next place that begins a WARC record: its header, or a gzip member, zstd or LZ4 frame that
holds one. Behind the damage of an ARC file, or of one compressed as one stream, nothing marks a record: the stretch is
the rest of it. The record before the damage is not trusted, since a reader notices a cut only after it: it comes as
damage with its bytes. So a file ends in pages and in quarantine, and what the quarantine names can be looked at,
whatever happened to the file.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from palimpsest.ingest.arc import is_arc
from palimpsest.ingest.framing import CHUNK, CODECS
from palimpsest.ingest.records import Record, SourceFile
from palimpsest.ingest.warc import read_records
from palimpsest.lake import LakeError

PLAIN_RECORD = b"WARC/"
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
                after = _next_record(file.path, suspect + 1)
                yield _damage(file, suspect, held, _what(error, file, start, after))
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


def _what(error: LakeError, file: SourceFile, start: int, after: int | None) -> str:
    said = str(error).removeprefix(f"{file.name}: ").split(";")[0]
    said += f" (offsets count from {start})" if start else ""
    return said if after else f"{said}; no record that can be read begins behind it"


def _damage(file: SourceFile, offset: int, suspect: Record | None, said: str) -> Record:
    with file.path.open("rb") as stream:
        stream.seek(offset)
        raw = stream.read(SHOWN)
    return Record(
        "damage", offset, suspect.url if suspect else "", suspect.date if suspect else None,
        payload=raw, cause="damaged", fault=said,
    )  # fmt: skip


def _next_record(path: Path, start: int) -> int | None:
    """Where the next readable record begins at or after ``start``: its header, or the frame that holds it."""
    with path.open("rb") as stream:
        if is_arc(stream):
            return None
        head = stream.read(4)
        mark = mark_of(head)
        stream.seek(start)
        at, kept = start, b""
        while block := stream.read(CHUNK):
            window = kept + block
            found = window.find(mark)
            while found >= 0:
                if begins(path, at - len(kept) + found, mark):
                    return at - len(kept) + found
                found = window.find(mark, found + 1)
            at += len(block)
            kept = window[-len(mark) + 1 :]
    return None


def mark_of(head: bytes) -> bytes:
    """What a record, or the frame around it, begins with in a file that begins with ``head``."""
    return next((magic for magic in CODECS if head.startswith(magic)), PLAIN_RECORD)


def begins(path: Path, offset: int, mark: bytes) -> bool:
    """Whether a WARC record, or a frame that holds one, begins at this byte of the file."""
    with path.open("rb") as stream:
        stream.seek(offset)
        head = stream.read(4096)
        if mark == PLAIN_RECORD:
            return HEADER.match(head) is not None
        try:
            if CODECS[mark] == "gzip":  # no byte further than needed: damage behind it is another stretch
                return zlib.decompressobj(wbits=31).decompress(head, len(PLAIN_RECORD)) == PLAIN_RECORD
            stream.seek(offset)
            frame = pa.CompressedInputStream(pa.PythonFile(stream, "r"), CODECS[mark])
            return frame.read(len(PLAIN_RECORD)) == PLAIN_RECORD
        except (OSError, zlib.error):
            return False
