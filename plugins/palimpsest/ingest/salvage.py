"""The records of a damaged crawl file that can still be read, and one record of kind 'damage' per stretch that cannot.

Reading takes up again at the next place that begins a WARC record: its header, or a gzip member, zstd or LZ4 frame that
holds one. Behind the damage of an ARC file, or of one compressed as one stream, nothing marks a record: the stretch is
the rest of it. The record before the damage is not trusted, since a reader notices a cut only after it: it comes as
damage with its bytes. So a file ends in pages and in quarantine, and what the quarantine names can be looked at,
whatever happened to the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from palimpsest.ingest.arc import is_arc
from palimpsest.ingest.framing import begins, mark_of
from palimpsest.ingest.records import Record, SourceFile
from palimpsest.ingest.warc import Unreadable, read_records
from palimpsest.lake import LakeError

SHOWN = 1 << 16  # bytes of a damaged stretch that its record carries
FRUITLESS = 1_000
"""Beginnings of records in a row behind which none could be read: a file with more of them is made so, and what is left
of it is one stretch. Each costs what it takes to look for the end of its header.
"""


REREAD = 100
"""How many times its size (at least `SMALL`) is read of a file in vain: a record whose length reaches to the end of the
file costs all of it. What is left behind so many of them is one stretch.
"""
SMALL = 1 << 22


def salvage_records(file: SourceFile, limit: int) -> Iterator[Record]:
    """Every readable record in file order, and the damage. Never raises for what the file holds."""
    start: int | None = 0
    fruitless, again, most = 0, 0, REREAD * max(file.path.stat().st_size, SMALL)
    while start is not None:
        held: Record | None = None
        fruitless += 1
        try:
            for record in read_records(file, limit, start):
                if held:
                    yield held
                held, fruitless = record, 0
            start = None
        except LakeError as error:
            suspect = held or Record("damage", start, "", None)
            reached = error.reached if isinstance(error, Unreadable) else suspect.offset
            start = None
            if fruitless < FRUITLESS and again <= most:
                start = _next_record(file.path, suspect.offset + 1)
                again += max(0, reached - (start or reached))
            yield _damage(file, suspect, start, str(error))
        else:
            if held:
                yield held


def _damage(file: SourceFile, suspect: Record, end: int | None, error: str) -> Record:
    """The stretch from the record that is not trusted to where reading takes up again."""
    said = error.removeprefix(f"{file.name}: ").split(";")[0]
    said += "" if end else "; no record that can be read begins behind it"
    with file.path.open("rb") as stream:
        stream.seek(suspect.offset)
        raw = stream.read(min(SHOWN, (end or sys.maxsize) - suspect.offset))
    return Record("damage", suspect.offset, suspect.url, suspect.date, payload=raw, cause="damaged", fault=said)


def _next_record(path: Path, start: int) -> int | None:
    """Where the next readable record begins at or after ``start``: its header, or the frame that holds it."""
    with path.open("rb") as stream:
        if is_arc(stream):
            return None
        head = stream.read(4)
        mark = mark_of(head)
        at, kept = start, b""
        while block := _block(stream, at):
            window = kept + block
            found = window.find(mark)
            while found >= 0:
                if begins(stream, at - len(kept) + found, mark):
                    return at - len(kept) + found
                found = window.find(mark, found + 1)
            at += len(block)
            kept = window[-len(mark) + 1 :]
    return None


def _block(stream: BinaryIO, at: int) -> bytes:
    stream.seek(at)
    return stream.read(SHOWN)
