"""Whether a record of a WARC file takes in the next one.

A Content-Length that spans the next record ends where a record does, so a reader goes on behind both without a word.
Where each record is compressed by itself, the frames show it; in a file that is not compressed, its digests.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType

from palimpsest.ingest.blocks import NotSound, check_block
from palimpsest.ingest.frames import MAGICS, frame_end
from palimpsest.ingest.framing import begins, codec, mark_of, passes


class Spans:
    """Of one WARC file that is being read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._codec = codec(self._map[:4])

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
        mark = mark_of(self._map[:4])
        at = frame_end(self._map, start)
        while at is not None and at < end:
            if begins(self._file, at, mark):
                raise NotSound(
                    f"the record at offset {at} was passed over: a Content-Length spans it, or an empty frame hides it"
                )
            at = frame_end(self._map, at)
