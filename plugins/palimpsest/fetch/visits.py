"""What became of each address of a crawl, kept as it happens: a crawl that was killed goes on from its journal."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.durable import move_durably, partial_beside
from palimpsest.fetch.links import site_of
from palimpsest.lake import Published, Rows

BEGUN = "begun"
KEPT = "captured"
DROPPED = ("unchanged", "identical", "redirect", "other_site", "robots", "robots_meta", "not_html", "too_deep",
           "over_budget", "sitemap")  # fmt: skip
QUARANTINED = ("http_status", "no_answer", "private_address", "too_large", "bad_sitemap", "robots_unavailable",
               "crawl_delay")  # fmt: skip
AGAIN = ("no_answer", "over_budget", "http_status", "private_address", "robots", "robots_meta", "robots_unavailable",
         "crawl_delay", "too_deep")  # fmt: skip
"""What may be otherwise another time: 304 says nothing of the links of a page, so the next crawl has to know of it."""
CRAWLS_AHEAD = 10
"""How many crawls' worth (``max_pages``) of a site's addresses a crawl takes up that no earlier one had found, and how
many it leaves to the next of those that it did not have, for each reason: a calendar has no end."""
Link = tuple[str, int, int]
"""An address, its depth (links from a start or a sitemap) and the redirects that led to it."""


@dataclass
class Visit:
    """One address and its outcome: 'captured', or why not."""

    url: str
    depth: int
    outcome: str
    detail: str = ""
    status: int | None = None
    etag: str = ""
    last_modified: str = ""
    payload_sha1: str = ""
    bytes: int = 0
    fetched_at: str = ""


FIELDS = [field.name for field in dataclasses.fields(Visit)]
SCHEMA = pa.schema(
    [(name, {"depth": pa.int32(), "status": pa.int32(), "bytes": pa.int64()}.get(name, pa.string())) for name in FIELDS]
)


@dataclass(frozen=True)
class Known:
    """An address that earlier crawls found: of a page that was captured, with what tells whether it has changed."""

    url: str
    depth: int
    etag: str = ""
    last_modified: str = ""
    payload_sha1: str = ""
    """Empty: it never was."""
    fetched_at: str = ""
    """When it was captured."""
    asked_at: str = ""


KNOWN = pa.schema(
    [(field.name, pa.int32() if field.name == "depth" else pa.string()) for field in dataclasses.fields(Known)]
)


class Journal:
    """The WARC file of a crawl and, beside it, a line for each visit; opened again it holds what it held."""

    def __init__(self, folder: Path, begun: dt.datetime) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.warc = folder, folder / "pages.warc.gz"
        self._lines = folder / "visits.jsonl"
        self.begun = begun_at(folder)
        if self.begun is None:
            self.begun = begun
            partial = partial_beside(folder / BEGUN)
            partial.write_text(begun.isoformat())
            move_durably(partial, folder / BEGUN)
        self.visits: list[Visit] = []
        self.found: list[Link] = []
        self.sitemaps: list[tuple[str, str]] = []
        """Of each sitemap that an index named the index's address and its own."""
        end = self._read()
        self._out = self.warc.open("r+b" if self.warc.exists() else "wb")
        self._out.truncate(end)
        self._out.seek(end)
        self._journal = self._lines.open("a", encoding="utf-8")

    def add(self, visit: Visit, found: Sequence[Link] = (), record: bytes = b"", sitemaps: Sequence[str] = ()) -> None:
        """One visit, the addresses of pages and of sitemaps found on it, its record for the archive, if it has one."""
        self._out.write(record)
        self._out.flush()  # also what was written of no visit: a line is believed if the archive reaches its end
        self.visits.append(visit)
        line = {"visit": dataclasses.asdict(visit), "found": found, "sitemaps": sitemaps, "end": self._out.tell()}
        self._journal.write(json.dumps(line) + "\n")
        self._journal.flush()

    def write(self, record: bytes) -> None:
        """A record of no visit; it is kept with the next one."""
        self._out.write(record)

    @property
    def is_new(self) -> bool:
        return not self.visits and not self._out.tell()

    def close(self) -> None:
        self._out.close()
        self._journal.close()

    def _read(self) -> int:
        """Take up what is whole; the rest of both files is cut off. Where the archive goes on."""
        size = self.warc.stat().st_size if self.warc.exists() else 0
        whole, end = 0, 0
        if not self._lines.exists():
            return 0
        content = self._lines.read_bytes()
        for line in content.splitlines(keepends=True):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else {"end": size + 1}
            except ValueError:
                break
            if entry["end"] > size:
                break
            whole, end = whole + len(line), entry["end"]
            self.visits.append(Visit(**entry["visit"]))
            self.found += [tuple(link) for link in entry["found"]]
            self.sitemaps += [(self.visits[-1].url, url) for url in entry.get("sitemaps", [])]
        os.truncate(self._lines, whole)
        return end


def begun_at(folder: Path) -> dt.datetime | None:
    """When the crawl in the folder was begun; None where there is none."""
    started = folder / BEGUN
    return dt.datetime.fromisoformat(started.read_text()) if started.exists() else None


def clear(folder: Path) -> None:
    """Remove a crawl from its folder; last of all what says which one it is, so that it can be told and cleared."""
    for file in sorted(folder.iterdir(), key=lambda one: one.name == BEGUN):
        file.unlink()


def rows_of(visits: list[Visit]) -> Rows:
    """Every address is captured, dropped for a reason or quarantined for a cause."""
    counts = Counter(visit.outcome for visit in visits)
    return Rows(
        len(visits),
        counts[KEPT],
        dropped={name: counts[name] for name in DROPPED if counts[name]},
        quarantined={name: counts[name] for name in QUARANTINED if counts[name]},
    )


def write_tables(directory: Path, visits: list[Visit], known: Mapping[str, Known], max_pages: int) -> None:
    """visits.parquet, and known.parquet: what the next crawl asks the servers about."""
    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(v) for v in visits], SCHEMA), directory / "visits.parquet")
    now, waiting = dict(known), Counter()
    for visit in sorted(visits, key=lambda one: one.depth):
        before = now.get(visit.url)
        if visit.outcome in (KEPT, "identical"):
            since = before.fetched_at if before and visit.outcome == "identical" else visit.fetched_at
            told = (visit.etag, visit.last_modified, visit.payload_sha1)
            now[visit.url] = Known(visit.url, visit.depth, *told, since, visit.fetched_at)
        elif visit.status in (404, 410):
            now.pop(visit.url, None)
        elif before:
            now[visit.url] = dataclasses.replace(before, asked_at=visit.fetched_at or before.asked_at)
        elif visit.outcome in AGAIN:
            kind = (site_of(visit.url), visit.outcome)
            waiting[kind] += 1
            if waiting[kind] <= CRAWLS_AHEAD * max_pages:
                now[visit.url] = Known(visit.url, visit.depth, asked_at=visit.fetched_at)
    rows = [dataclasses.asdict(one) for _, one in sorted(now.items())]
    pq.write_table(pa.Table.from_pylist(rows, KNOWN), directory / "known.parquet")


def known_pages(crawl: Published | None) -> dict[str, Known]:
    """What earlier crawls found, by address; what was asked for longest ago first, what never was before it."""
    if crawl is None:
        return {}
    found = [Known(**row) for row in pq.read_table(crawl.file("known.parquet")).to_pylist()]
    return {one.url: one for one in sorted(found, key=lambda one: (one.asked_at, one.depth, one.url))}
