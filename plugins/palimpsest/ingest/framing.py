"""How an archive is compressed, and whether it ends where its last record does.

fastwarc stops without a word at a cut-off gzip member, and reads a record whose block is cut off as a shorter one.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from palimpsest.ingest.blocks import CHUNK, LINE, Head, NotSound, check_block, pass_block, read_head
from palimpsest.ingest.frames import LZ4, ZSTD

CODECS = {b"\x1f\x8b": "gzip", ZSTD: "zstd", LZ4: "lz4"}
PLAIN_RECORD = b"WARC/"
MARKS = (*CODECS, PLAIN_RECORD)
"""What a record, or the frame around it, can begin with."""
HEADER = re.compile(rb"WARC/1\.[01]\r\n[A-Za-z-]+:")


def codec(head: bytes) -> str | None:
    """The compression of a file that begins so; None for none that is known."""
    return next((name for magic, name in CODECS.items() if head.startswith(magic)), None)


def ends_whole(path: Path, last: int, records: int, start: int = 0) -> bool:
    """Whether the WARC file ends where a record does, and fastwarc gave as many ``records`` as it has from ``start``
    on; ``last``: the offset of its last one, as fastwarc gives it.

    Of a file compressed as one stream fastwarc gives no offset that a reader can start at: all of it is read again, and
    `NotSound` raised for a block that is not what its record says of it.
    """
    if last > start and _ends_behind(path, last, 1, pass_block):
        return True
    one_stream = last == start or codec(_head(path, start)) is not None
    return records > 0 and one_stream and _ends_behind(path, start, records, check_block)


def is_empty(path: Path) -> bool:
    """Whether a compressed file is whole and holds nothing."""
    with path.open("rb") as stream:
        head = _head(path, 0)
        try:
            return bool(codec(head)) and not decompressed(stream, head).read(1)
        except OSError:
            return False


def decompressed(stream: BinaryIO, head: bytes) -> BinaryIO:
    """The content from here on. Raises `OSError` while it is read where the compression is damaged or cut off."""
    name = codec(head)
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stream, "r"), name)) if name else stream


def mark_of(head: bytes) -> bytes:
    """What a record, or the frame around it, begins with in a file that begins with ``head``."""
    return next((magic for magic in CODECS if head.startswith(magic)), PLAIN_RECORD)


def begins(stream: BinaryIO, offset: int, mark: bytes) -> bool:
    """Whether a WARC record, or a frame that holds one, begins at this byte of an open file; moves in the file."""
    stream.seek(offset)
    head = stream.read(4096)
    if mark == PLAIN_RECORD:
        end, other = head.find(b"\r\n\r\n"), head.find(b"\r\n" + PLAIN_RECORD)
        return HEADER.match(head) is not None and (other < 0 or 0 <= end < other)
    try:
        if CODECS[mark] == "gzip":  # no byte further than needed: damage behind it is another stretch
            return zlib.decompressobj(wbits=31).decompress(head, len(PLAIN_RECORD)) == PLAIN_RECORD
        with open(stream.name, "rb") as own:  # which pyarrow closes
            own.seek(offset)
            frame = pa.CompressedInputStream(pa.PythonFile(own, "r"), CODECS[mark])
            return frame.read(len(PLAIN_RECORD)) == PLAIN_RECORD
    except (OSError, zlib.error):
        return False


def passes(content: BinaryIO, go_past: Callable[[BinaryIO, Head], None]) -> bool:
    """Go past one whole record; False at what is none, and at the end. Raises `OSError` for one that is not whole."""
    head = read_head(content)
    if head is None:
        return False
    go_past(content, head)
    if content.read(4) != b"\r\n\r\n":
        raise OSError("cut off after a block")
    return True


def _head(path: Path, start: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(4)


def _ends_behind(path: Path, start: int, records: int, go_past: Callable[[BinaryIO, Head], None]) -> bool:
    """Whether so many records follow and then the end of the file; no further one is read."""
    with path.open("rb") as stream:
        stream.seek(start)
        head = stream.read(4)
        stream.seek(start)
        try:
            content = decompressed(stream, head)
            return all(passes(content, go_past) for _ in range(records)) and not content.read(1)
        except NotSound:
            raise
        except OSError:
            return False


class Members:
    """The content of a file, plain or gzip, of which it is known in which gzip member each byte lies.

    Raises `OSError` where the compression is damaged or cut off.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._gzipped = codec(stream.read(4)) == "gzip"
        stream.seek(0)
        self._plain, self._from, self._raw, self._came = b"", 0, b"", 0
        self._member = None
        self._start, self._given = 0, 0
        self._begins = False
        self.offset = 0
        """Of the line read last: where a reader can start, a byte of a plain file, else of its gzip member."""

    def readline(self) -> bytes:
        """A line with its end, at most 64 KiB; b'' at the end of the file."""
        if not self._fill():
            return b""
        self.offset = self._start if self._gzipped else self._came - (len(self._plain) - self._from)
        self._begins = self._gzipped and not self._given
        found = b""
        while len(found) < LINE and self._fill():
            end = self._plain.find(b"\n", self._from) + 1
            found += self._take((end or len(self._plain)) - self._from)
            if end:
                break
        return found

    def read(self, size: int, keep: int) -> bytes:
        """The first ``keep`` of the next ``size`` bytes. Raises `OSError` if there are fewer than ``size``."""
        parts = []
        while size:
            if not self._fill():
                raise OSError(f"{size} bytes are missing at the end of the file")
            part = self._take(min(size, len(self._plain) - self._from))
            size -= len(part)
            parts.append(part[:keep])
            keep -= len(parts[-1])
        return b"".join(parts)

    def spans_more(self) -> bool:
        """Whether the line read last began a gzip member, and what was read since goes on in another."""
        return self._begins and self._start != self.offset

    def _take(self, size: int) -> bytes:
        found = self._plain[self._from : self._from + size]
        self._from += size
        self._given += size
        return found

    def _fill(self) -> bool:
        """Whether there is a byte to take."""
        while self._from == len(self._plain):
            if not self._raw:
                self._raw = self._stream.read(CHUNK)
                self._came += len(self._raw)
                if not self._raw:
                    if self._member:
                        raise OSError("the last gzip member is cut off")
                    return False
            self._from = 0
            if self._gzipped:
                self._inflate()
            else:
                self._plain, self._raw = self._raw, b""
        return True

    def _inflate(self) -> None:
        if self._member is None:
            self._start, self._given = self._came - len(self._raw), 0
            self._member = zlib.decompressobj(wbits=31)
        try:
            self._plain = self._member.decompress(self._raw, CHUNK)
        except zlib.error as error:
            raise OSError(str(error)) from None
        if self._member.eof:
            self._raw, self._member = self._member.unused_data, None
        else:
            self._raw = self._member.unconsumed_tail
