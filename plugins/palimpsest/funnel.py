"""What became of the records of each day of a corpus, read from the mart ``document_funnel``."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from palimpsest.lake import Published

FILE = "document_funnel.parquet"


@dataclass
class Funnel:
    """Of one day, or of some together; ``dropped`` by reason and ``quarantined`` by cause, in pages."""

    documents: int = 0
    words: int = 0
    """Of the documents."""
    tokens: int = 0
    """The same, estimated by their bytes."""
    lost_words: int = 0
    """Of the dropped pages."""
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)

    @property
    def records(self) -> int:
        return self.documents + self.dropped.total() + self.quarantined.total()

    def add(self, other: Funnel) -> None:
        self.documents += other.documents
        self.words += other.words
        self.tokens += other.tokens
        self.lost_words += other.lost_words
        self.dropped += other.dropped
        self.quarantined += other.quarantined

    def __str__(self) -> str:
        lost = f"{self.quarantined.total():,} quarantined{_each(self.quarantined)}, "
        lost += f"{self.dropped.total():,} dropped{_each(self.dropped)}"
        kept = f"{self.documents:,} documents of {self.words:,} words (about {self.tokens:,} tokens)"
        return f"{self.records:,} records: {lost}, {kept}"


def funnels(documents: Published) -> dict[dt.date, Funnel]:
    """By day, in order; nothing for documents that were made before there was such a table (of all its columns)."""
    if FILE not in {file["name"] for file in documents.manifest["files"]}:
        return {}
    table = pq.read_table(documents.file(FILE))
    if "tokens" not in table.column_names:
        return {}
    found: dict[dt.date, Funnel] = {}
    for row in table.to_pylist():
        day = found.setdefault(row["day"], Funnel())
        if row["outcome"] == "document":
            day.documents, day.words = day.documents + row["pages"], day.words + row["words"]
            day.tokens += row["tokens"]
        elif row["outcome"] == "dropped":
            day.dropped[row["reason"]] += row["pages"]
            day.lost_words += row["words"]
        else:
            day.quarantined[row["reason"]] += row["pages"]
    return found


def together(days: dict[dt.date, Funnel]) -> Funnel:
    total = Funnel()
    for day in days.values():
        total.add(day)
    return total


def _each(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.most_common())})" if counts else ""
