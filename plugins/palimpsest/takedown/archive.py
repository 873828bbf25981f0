"""WARC files without the records of some addresses: what stays is copied byte by byte, never packed anew."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Container
from pathlib import Path

from fastwarc.warc import ArchiveIterator

from palimpsest.durable import partial_beside
from palimpsest.fetch.warcfile import record
from palimpsest.ingest.framing import begins, mark_of
from palimpsest.ingest.warc import record_url
from palimpsest.lake import LakeError

Spans = list[tuple[int, int, str]]
"""Of each record its first byte in the file, the byte behind it, and its address."""


def held(path: Path, urls: Container[str]) -> tuple[int, bool]:
    """Records of these addresses (answers, requests, texts, metadata), and whether they can be cut out.

    They cannot where nothing marks a record: in a file that is compressed as one stream. A file that is no WARC (a
    table, ARC) has none.
    """
    spans = _spans(path)
    count = sum(url in urls for *_, url in spans)
    if not count:
        return 0, True
    with path.open("rb") as stream:
        mark = mark_of(stream.read(4))
        return count, all(begins(stream, start, mark) for start, *_ in spans)


def is_warc(path: Path) -> bool:
    with path.open("rb") as stream:
        return begins(stream, 0, mark_of(stream.read(4)))


def cut(path: Path, urls: Container[str]) -> None:
    """Rewrite the file without the records of these addresses. Raises `LakeError` where they cannot be cut out."""
    if not is_warc(path) or not held(path, urls)[1]:
        raise LakeError(f"{path.name}: no WARC file whose records can be cut out; it was left as it is")
    kept = [(start, end) for start, end, url in _spans(path) if url not in urls]
    partial = partial_beside(path)
    with path.open("rb") as source, partial.open("wb") as out:
        for start, end in kept:
            source.seek(start)
            while start < end and (block := source.read(min(end - start, 1 << 20))):
                out.write(block)
                start += len(block)
        if not kept:  # a file without a record would be taken for a damaged one
            about = b"software: palimpsest\r\ndescription: all its records were taken down\r\n"
            out.write(record("warcinfo", "", dt.datetime.now(dt.UTC), about, "application/warc-fields"))
    shutil.move(partial, path)


def _spans(path: Path) -> Spans:
    if not is_warc(path):
        return []
    with path.open("rb") as stream:
        found = [(one.stream_pos, record_url(one)) for one in ArchiveIterator(stream, parse_http=False)]
    ends = [start for start, _ in found[1:]] + [path.stat().st_size]
    return [(start, end, url) for (start, url), end in zip(found, ends, strict=True)]
