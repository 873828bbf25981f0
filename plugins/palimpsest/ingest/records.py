"""What a source holds, one item at a time: a crawl record with its bytes, or a row whose text is extracted already."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from palimpsest.lake import Corrupt, digest_file

PAGE_KINDS = ("response", "conversion", "row", "damage")
"""Records that become a page or are quarantined; the other kinds are only counted. 'damage': a stretch of a file that
cannot be read."""
USER = re.compile(r"^((?:[a-z][a-z0-9+.-]*:)?//)[^/?#]*@", re.IGNORECASE)
IGNORED = "".join(map(chr, range(33)))
"""What may stand before an address without being part of it, as `urllib.parse.urlsplit` reads it."""


def without_user(url: str) -> str:
    """The address without the name and password that may stand before its host: they are nobody else's to read."""
    plain = re.sub(r"[\t\r\n]", "", url.lstrip(IGNORED))
    return USER.sub(r"\1", plain) if USER.match(plain) else url


@dataclass(frozen=True)
class SourceFile:
    """``name`` as the corpus file gives it (globs filled in), ``path`` where it lies."""

    name: str
    path: Path
    sha256: str = ""
    """Where it is known already."""
    days: Mapping[str, int] | None = None
    """Pages by day (ISO; '' for those without a date), where that is known; None: any day may be in it."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @property
    def fingerprint(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.sha256 or digest_file(self.path)}

    def check(self) -> None:
        """Raise `Corrupt` unless it still is what was fetched; a file of the user's own may be anything."""
        if self.sha256 and (not self.path.exists() or digest_file(self.path) != self.sha256):
            raise Corrupt(f"{self.path} no longer matches its manifest; delete {self.path.parent} and fetch it again")

    def at_hand(self) -> AbstractContextManager[None]:
        """What to read it in: inside it lies at ``path``."""
        return nullcontext()

    def may_hold(self, days: Iterable[dt.date], first: dt.date) -> bool:
        """Whether pages of one of the days may be in it; those without a date belong to the corpus' ``first``."""
        return self.days is None or any(
            day.isoformat() in self.days or (day == first and "" in self.days) for day in days
        )


@dataclass
class Record:
    """``payload`` of a response is its body, decoded as its HTTP headers say, at most limit + 1 bytes."""

    kind: str
    """One of `PAGE_KINDS`, or what its file calls it."""
    offset: int
    """Where a reader finds it again: a byte of the file as it lies on disk, or the row's number from 1; of a text in
    pieces the piece's, counted as if every row had all of them."""
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
        return self.kind in PAGE_KINDS
