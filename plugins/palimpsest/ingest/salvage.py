"""The records of a damaged crawl file that can still be read, and one record of kind 'damage' per stretch that cannot.

Reading takes up again at the next place that begins a WARC record: its header, or a gzip member, zstd or LZ4 frame that
holds one. Behind the damage of an ARC file, or of one compressed as one stream, nothing marks a record: the stretch is
the rest of it. A reader notices a cut only behind it, so the record before the damage is trusted only where its own
frame, or its digest, shows that it is whole; else it comes as damage with its bytes. So a file ends in pages and in
quarantine, and what the quarantine names can be looked at, whatever happened to the file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from palimpsest.ingest.arc import is_arc
from palimpsest.ingest.framing import MARKS, begins
from palimpsest.ingest.records import Record, SourceFile
from palimpsest.ingest.spans import own_end
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
            end = own_end(file.path, held.offset, reached) if held else None
            if held and end and end < file.path.stat().st_size:
                yield held
                suspect = Record("damage", end, "", held.date)
            start = None
            if fruitless < FRUITLESS and again <= most:
                start = _next_record(file.path, suspect.offset + 1)
                again += max(0, reached - (start or reached))
            yield _damage(file, suspect, start, str(error))
        else:
            if held:
                yield held


def _damage(file: SourceFile, suspect: Record, end: int | None, error: str) -> Record:
    """The stretch from the damage, or the record before it that is not trusted, to where reading takes up again."""
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
        head = stream.read(max(map(len, MARKS)))
        marks = [mark for mark in MARKS if head.startswith(mark)] or MARKS  # all, where the head itself is damaged
        looked_for = re.compile(b"|".join(map(re.escape, marks)))
        at, kept = start, b""
        while block := _block(stream, at):
            window = kept + block
            found = looked_for.search(window)
            while found:
                if begins(stream, at - len(kept) + found.start(), found[0]):
                    return at - len(kept) + found.start()
                found = looked_for.search(window, found.start() + 1)
            at += len(block)
            kept = window[-max(map(len, marks)) + 1 :]
    return None


def _block(stream: BinaryIO, at: int) -> bytes:
    stream.seek(at)
    return stream.read(SHOWN)
