"""What a source holds, one item at a time: a crawl record with its bytes, or a row whose text is extracted already."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

ENDS_AS_PAGE = ("response", "row", "damage")
"""Kinds that become a page or are quarantined. 'damage': a stretch of a file that cannot be read."""


@dataclass
class Record:
    """``payload`` of a response is its body, decoded as its HTTP headers say, at most limit + 1 bytes."""

    kind: str
    """One of `ENDS_AS_PAGE`; the other kinds are only counted."""
    offset: int
    """Where a reader finds it again: a byte of the file as it lies on disk, or the row's number from 1."""
    url: str
    date: dt.datetime | None
    http_status: int | None = None
    content_type: str = ""
    charset: str = ""
    payload: bytes = b""
    title: str | None = None
    """Of a row; None: the payload is a page whose text and title are yet to be extracted."""
    fault: str = ""
    """Why it could not be read, in words; ``cause`` is the code."""
    cause: str = "bad_http"
    position: int | None = None
    """Bytes of the file read so far, where that is not ``offset``."""

    @property
    def is_page(self) -> bool:
        return self.kind in ENDS_AS_PAGE
