"""The lake without some pages: versions removed, days and archives rewritten where they lie, rows of the ledger gone.

Every function may be interrupted at any instant and called again: what it did stays done, and nothing but the pages
is lost.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.durable import fsync, move_durably, partial_beside, sweep
from palimpsest.fetch.verify import check_warc
from palimpsest.fetch.visits import Visit, rows_of
from palimpsest.generate.segments import SCHEMA, Segments, serialized
from palimpsest.generate.segments import rows_of as rows_in
from palimpsest.ingest.day import Day
from palimpsest.ingest.pages import pages_schema, withheld_row, without_bytes
from palimpsest.lake import MANIFEST, Lake, NotPublished, Published, Rows
from palimpsest.manifest import describe_files
from palimpsest.takedown import archive, tombstones
from palimpsest.takedown.find import Identity, is_named, kind_of

Facts = dict[str, Any]
"""Keys of a manifest that are other than before."""


def remove(lake: Lake, uri: str) -> None:
    """One version, and the name `Lake.latest` finds it by. First its manifest: nobody reads it half removed."""
    folder, pointer = f"{lake.base}/{uri}", f"{lake.base}/{uri.rsplit('/', 1)[0]}/latest.json"
    with lake.weather():
        with contextlib.suppress(FileNotFoundError):
            if json.loads(lake.fs.cat_file(pointer))["uri"] == uri:
                lake.fs.rm_file(pointer)
        for place in (f"{folder}/{MANIFEST}", folder):
            with contextlib.suppress(FileNotFoundError):
                lake.fs.rm(place, recursive=place == folder)
    if lake.local:
        with contextlib.suppress(FileNotFoundError):
            fsync(Path(folder).parent)
    _forget_copy(lake, uri)


def rewrite(lake: Lake, published: Published, who: Identity) -> None:
    """A version of `find.REWRITTEN` without the pages, under its own URI: with another digest."""
    changes = {"pages": _day, "crawls": _crawl, "captures": _capture, "audits": _audit}
    change = changes[kind_of(published.dataset)]
    with tempfile.TemporaryDirectory(prefix="palimpsest-takedown-") as scratch:
        folder = Path(scratch, "version")
        with lake.weather():
            lake.fs.get(f"{lake.base}/{published.uri}", str(folder), recursive=True)
        for file in (folder / MANIFEST, *folder.rglob(".*.partial")):
            file.unlink()
        facts = change(folder, published, who)
        manifest = {**published.manifest, **describe_files(folder), **facts}
        for left in Path(lake.base, published.uri).rglob(".*.partial") if lake.local else ():
            sweep(left)
        # Last names first: the quarantine takes up the rows of pages before pages lose them.
        for file in sorted((one for one in folder.rglob("*") if one.is_file()), reverse=True):
            _put(lake, f"{published.uri}/{file.relative_to(folder)}", file)
    lake.write_file(f"{published.uri}/{MANIFEST}", json.dumps(manifest, indent=1, sort_keys=True).encode())
    with contextlib.suppress(NotPublished):
        if lake.latest(published.dataset).uri == published.uri:
            lake.point(lake.open(published.uri))
    _forget_copy(lake, published.uri)


def forget(lake: Lake, keys: Collection[str]) -> int:
    """The ledger's rows of these requests; how many there were. Segments must not be merged meanwhile."""
    segments, wanted, gone = Segments(lake), set(keys), 0
    found = [name for name, file in segments.verified() if wanted and any(True for _ in rows_in(file, wanted, ["key"]))]
    for name in found:
        file = segments.open(name)
        if file is None:
            continue
        batches = list(rows_in(file, None, SCHEMA.names))
        file.close(force=True)
        table = pa.Table.from_batches(batches, SCHEMA)
        kept = table.filter(pa.array([key not in wanted for key in table["key"].to_pylist()]))
        gone += len(table) - len(kept)
        if len(kept):
            segments.write(serialized(kept))
        segments.delete(name)
    return gone


def _day(folder: Path, published: Published, who: Identity) -> Facts:
    """The page's records stay counted, as quarantined: as when the day is extracted again."""
    graves = tombstones.standing(published.lake)

    def withheld(row: dict) -> dict:
        return withheld_row(row, tombstones.CAUSE, f"see {graves[row['url']].order} of the lake")

    def without(row: dict) -> dict:
        return withheld(row) if row["url"] in who.urls else without_bytes(row)

    known = pages_schema("best")
    stored = pq.read_schema(folder / "pages.parquet")  # of another version of the code, perhaps
    schema = pa.schema([known.field(one.name) if one.name in known.names else one for one in stored])
    day = Day(folder.with_name("day"), schema)
    # what the quarantine had taken up before this was interrupted
    counted = {_record(row) for row in _rows(folder / "quarantine.parquet") if row["cause"] == tombstones.CAUSE}
    gone = []
    for row in _rows(folder / "pages.parquet"):
        if row["url"] not in who.urls:
            day.keep(row)
        elif _record(row) not in counted:
            gone.append(withheld(row))
    held = map(without, _rows(folder / "quarantine.parquet"))
    for row in heapq.merge(held, gone, key=lambda row: _record(row)[:2]):
        day.quarantine(row)
    day.close()
    for file in day.folder.iterdir():
        shutil.move(file, folder / file.name)
    rows = Rows(day.kept + day.causes.total(), day.kept, quarantined=dict(sorted(day.causes.items())))
    return {"rows": rows.as_dict()}


def _crawl(folder: Path, published: Published, who: Identity) -> Facts:
    for name in ("visits.parquet", "known.parquet"):
        _filter(folder / name, who)
    archive.cut(folder / "pages.warc.gz", who.urls)
    counted = rows_of([Visit(**row) for row in _rows(folder / "visits.parquet")])
    return {"rows": counted.as_dict(), "extra": {**published.extra, **check_warc(folder / "pages.warc.gz")}}


def _capture(folder: Path, published: Published, who: Identity) -> Facts:
    extra = dict(published.extra)
    for file in folder.iterdir():
        archive.cut(file, who.urls)
        extra |= check_warc(file)
    return {"extra": extra}


def _audit(folder: Path, published: Published, who: Identity) -> Facts:
    _filter(folder / "audit.parquet", who)
    counts: dict[str, dict[str, int]] = {"audited": {}, "good": {}}
    for row in _rows(folder / "audit.parquet"):
        for name, count in (("audited", 1), ("good", bool(row["good"]))):
            counts[name][row["strategy"]] = counts[name].get(row["strategy"], 0) + count
    return {"extra": {**published.extra, **counts}}


def _filter(file: Path, who: Identity) -> None:
    table = pq.read_table(file)
    kept = table.filter(pa.array([not is_named(row, who) for row in table.to_pylist()], pa.bool_()))
    pq.write_table(kept, file)


def _rows(file: Path) -> Iterator[dict]:
    with pq.ParquetFile(file) as stored:
        for batch in stored.iter_batches(batch_size=100):
            yield from batch.to_pylist()


def _record(row: dict) -> tuple:
    """Which record of the source a row is of; without the last field, where it stands."""
    return row["warc_file"], row["warc_offset"], row["fetched_at"]


def _put(lake: Lake, name: str, file: Path) -> None:
    """In place of the file that is there: readers see the one or the other."""
    if not lake.local:
        with lake.weather():
            lake.fs.put_file(str(file), f"{lake.base}/{name}")
        return
    partial = partial_beside(Path(lake.base, name))
    try:
        shutil.copyfile(file, partial)
        move_durably(partial, Path(lake.base, name))
    finally:
        partial.unlink(missing_ok=True)


def _forget_copy(lake: Lake, uri: str) -> None:
    if not lake.local:
        shutil.rmtree(lake.copies() / uri, ignore_errors=True)
