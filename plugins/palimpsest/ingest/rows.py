"""The rows of a table (JSON lines or Parquet) as records: text that was extracted elsewhere, dated and addressed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from palimpsest.config import Columns, Corpus
from palimpsest.config.table import PIECE, template_columns
from palimpsest.ingest.records import Record, SourceFile, without_user
from palimpsest.lake import LakeError
from palimpsest.table import Overlong, fill, pieces, read_table

ESCAPED = 3  # bytes of a line for one of its text, in a script that JSON writes as escapes
BESIDE = 1 << 20  # bytes of a line beside the text


def read_rows(file: SourceFile, corpus: Corpus) -> Iterator[Record]:
    """Every row that ``source.where`` selects, in file order. Raises `LakeError` naming file and row."""
    columns = corpus.source.columns or Columns()
    named = [n for n in (*template_columns(columns.url), columns.text, columns.title, columns.date) if n]
    first_day = dt.datetime.combine(corpus.start, dt.time(tzinfo=dt.UTC))
    found = False
    longest = ESCAPED * corpus.limits.max_page_bytes + BESIDE
    for number, position, row in read_table(file.path, named, corpus.source.where, file.name, longest):
        found = True
        if isinstance(row, Overlong):
            offset, date = (number - 1) * columns.pieces + 1, None if columns.date else first_day
            said = f"row {number} is a line of {row.size} bytes; it is read up to {longest} (limits.max_page_bytes)"
            yield Record("damage", offset, "", date, payload=row.head, fault=said, cause="too_large", position=position)
            continue
        for piece in pieces(row, columns, file.name):
            record = _record(columns, piece, number, position, first_day)
            if columns.pieces > 1:  # each stands somewhere else, or one could not be told from the next
                record.offset = (number - 1) * columns.pieces + piece[PIECE]
            yield record
    if not found:
        chosen = ", ".join(f"{key} = {value!r}" for key, value in corpus.source.where.items())
        raise LakeError(
            f"{file.name}: the file holds no row{f' with {chosen}' if chosen else ''}; correct source.where or remove "
            "the file from source.files"
        )


def _record(columns: Columns, row: dict[str, Any], number: int, position: int, first_day: dt.datetime) -> Record:
    text = row.get(columns.text)
    title = row.get(columns.title) if columns.title else None
    record = Record(
        "row",
        number,
        "",
        _date(row.get(columns.date)) if columns.date else first_day,
        content_type="text/plain",
        charset="utf-8",
        title=" ".join(str(title).split()) if title is not None else "",
        position=position,
    )
    if isinstance(text, str):
        record.payload = text.encode(errors="replace")  # a lone surrogate of a JSON escape is no character
    elif text is not None:
        record.cause, record.fault = "bad_text", f"column '{columns.text}' holds {type(text).__name__}, not text"
    try:
        record.url = without_user(fill(columns.url, row, number) or "")
        record.url.encode()
    except UnicodeEncodeError as error:
        record.url = error.object.encode(errors="backslashreplace").decode()
        record.cause, record.fault = "bad_url", f"its address is of {error.object!r}, which holds half a character"
    return record


def _date(value: object) -> dt.datetime | None:
    """A moment in UTC; None for what cannot be read as one."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time())
    if not isinstance(value, dt.datetime):
        return None
    try:
        return value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None
