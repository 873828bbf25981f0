"""Whether a record of a WARC file takes in the next one, and where one ends that is whole whatever follows it.

A Content-Length that spans the next record ends where a record does, so a reader goes on behind both without a word.
Where each record is compressed by itself, the frames show it; in a file that is not compressed, its digests.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa
from fastwarc.warc import ArchiveIterator

from palimpsest.ingest.blocks import Head, NotSound, check_block, check_digest, pass_block
from palimpsest.ingest.frames import MAGICS, frame_end
from palimpsest.ingest.framing import begins, codec, decompressed, mark_of, passes


class Spans:
    """Of one WARC file that is being read from ``start`` on: what is there says how it is compressed."""

    def __init__(self, path: Path, start: int) -> None:
        self._file = path.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._head = self._map[start : start + 4]
        self._codec = codec(self._head)

    def __enter__(self) -> Spans:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._map.close()
        self._file.close()

    def check(self, start: int, end: int | None = None) -> None:
        """Raise `OSError` if there is more than one record from ``start``, where one begins, to ``end``, where the next
        does, as fastwarc says; None: the end of the file.
        """
        end = len(self._map) if end is None else end
        if self._codec is None:
            self._file.seek(start)
            passes(self._file, check_block)
        elif self._map.find(MAGICS[self._codec], start + 1, end) >= 0:
            self._walk(start, end)

    def _walk(self, start: int, end: int) -> None:
        mark = mark_of(self._head)
        at = frame_end(self._map, start)
        while at is not None and at < end:
            if begins(self._file, at, mark):
                raise NotSound(
                    f"the record at offset {at} was passed over: a Content-Length spans it, or an empty frame hides it"
                )
            at = frame_end(self._map, at)


def own_end(path: Path, start: int, reached: int) -> int | None:
    """The byte behind the record at ``start`` if it is whole: alone in a frame that ends by ``reached``, or plain, with
    the WARC-Block-Digest that it names. None for one of which neither shows that it was not cut.
    """
    with path.open("rb") as stream, pa.memory_map(str(path)) as mapped:
        stream.seek(start)
        head = stream.read(4)
        stream.seek(start)
        try:
            end = _plain_end(stream) if codec(head) is None else _frame_end(stream, mapped, head, reached)
            if end is None:
                return None
            alone = ArchiveIterator(_part(mapped, start, end), parse_http=False)
            return end if sum(1 for _ in alone) == 1 else None  # fastwarc may take another length than `passes` does
        except OSError:
            return None


def _plain_end(stream: BinaryIO) -> int | None:
    return stream.tell() if passes(stream, _hold_to_digest) else None


def _frame_end(stream: BinaryIO, mapped: pa.MemoryMappedFile, head: bytes, reached: int) -> int | None:
    start = stream.tell()
    with mmap.mmap(stream.fileno(), reached, access=mmap.ACCESS_READ) as content:
        end = frame_end(content, start)
    if end is None:
        return None
    frame = decompressed(_part(mapped, start, end), head)
    return end if passes(frame, pass_block) and not frame.read(1) else None


def _part(mapped: pa.MemoryMappedFile, start: int, end: int) -> pa.BufferReader:
    mapped.seek(start)
    return pa.BufferReader(mapped.read_buffer(end - start))


def _hold_to_digest(content: BinaryIO, head: Head) -> None:
    if not check_digest(content, head):
        raise NotSound("it names no digest that can be checked")
