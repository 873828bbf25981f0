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

from palimpsest.lake import Published, Rows

KEPT = "captured"
DROPPED = ("unchanged", "identical", "redirect", "other_site", "robots", "robots_meta", "not_html", "too_deep",
           "over_budget", "sitemap")  # fmt: skip
QUARANTINED = ("http_status", "no_answer", "private_address", "too_large", "bad_sitemap", "robots_unavailable",
               "crawl_delay")  # fmt: skip
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
KNOWN = pa.schema([("url", pa.string()), ("depth", pa.int32())] + [
    (name, pa.string()) for name in ("etag", "last_modified", "payload_sha1", "fetched_at")
])  # fmt: skip


class Journal:
    """The WARC file of a crawl and, beside it, a line for each visit; opened again it holds what it held."""

    def __init__(self, folder: Path, begun: dt.datetime) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.warc = folder, folder / "pages.warc.gz"
        self._lines = folder / "visits.jsonl"
        started = folder / "begun"
        if not started.exists():
            started.write_text(begun.isoformat())
        self.begun = dt.datetime.fromisoformat(started.read_text())
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


def rows_of(visits: list[Visit]) -> Rows:
    """Every address is captured, dropped for a reason or quarantined for a cause."""
    counts = Counter(visit.outcome for visit in visits)
    return Rows(
        len(visits),
        counts[KEPT],
        dropped={name: counts[name] for name in DROPPED if counts[name]},
        quarantined={name: counts[name] for name in QUARANTINED if counts[name]},
    )


def write_tables(directory: Path, visits: list[Visit], known: Mapping[str, Visit]) -> None:
    """visits.parquet, and known.parquet: what the next crawl asks the servers about."""
    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(v) for v in visits], SCHEMA), directory / "visits.parquet")
    now = dict(known)
    for visit in visits:
        if visit.outcome in (KEPT, "identical"):
            now[visit.url] = visit
        elif visit.status in (404, 410):
            now.pop(visit.url, None)
    rows = [{name: getattr(visit, name) for name in KNOWN.names} for _, visit in sorted(now.items())]
    pq.write_table(pa.Table.from_pylist(rows, KNOWN), directory / "known.parquet")


def known_pages(crawl: Published | None) -> dict[str, Visit]:
    """Pages that earlier crawls captured, with what tells whether they have changed."""
    if crawl is None:
        return {}
    rows = pq.read_table(crawl.file("known.parquet")).to_pylist()
    return {row["url"]: Visit(outcome="known", **row) for row in rows}
