"""Real texts of the data folder."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import pyarrow.parquet as pq

from palimpsest.config import Limits
from palimpsest.config.files import data_dir
from palimpsest.ingest import pages
from palimpsest.ingest.records import SourceFile
from palimpsest.ingest.warc import read_records
from palimpsest.ingest.worker import Poisoned


def web_pages() -> list[str]:
    """Main texts of the HTML pages in the data folder."""
    found = []
    for file in sorted((data_dir() / "html").rglob("*.html.gz")):
        found.append(pages.examine(gzip.decompress(file.read_bytes()), "", 5)["text"])
    for path in sorted((data_dir() / "warc").glob("*.warc.gz")):
        for record in filter(attrgetter("is_page"), read_records(SourceFile(path.name, path), Limits().max_page_bytes)):
            with contextlib.suppress(pages.Quarantined, Poisoned):
                pages.check(record, Limits())
                found.append(pages.examine(record.payload, record.charset, 5)["text"])
    return [text for text in found if text.strip()]


def texts_of(files: Sequence[Path]) -> list[str]:
    """Column ``text`` of these Parquet files."""
    return [text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]
