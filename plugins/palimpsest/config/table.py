"""Columns of a table (JSON lines or Parquet), by the names they have there."""

from __future__ import annotations

import string
from typing import Annotated

from pydantic import AfterValidator, Field

from palimpsest.config.base import Strict

ROW = "row"
"""In a template: the number of the row in its file, from 1; for tables without a key of their own."""
Value = str | int | float | bool


def template_columns(template: str) -> list[str]:
    """The columns a template names, in order, each once."""
    return list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(template) if name is not None))


def _template(value: str) -> str:
    try:
        pieces = list(string.Formatter().parse(value))
    except ValueError as error:
        raise ValueError(f"'{value}' is no template: {error}; write columns in braces, like {{url}}") from None
    if not any(name is not None for _, name, _, _ in pieces):
        raise ValueError(f"'{value}' names no column, so all rows would have one address; write {{id}} for column 'id'")
    for _, name, spec, conversion in pieces:
        if name == "" or spec or conversion:
            raise ValueError(f"'{value}': only {{column}} is allowed between braces")
    return value


Address = Annotated[str, AfterValidator(_template)]
"""'{url}', or a template of several columns: 'https://{site}/{doc_id}' ({row}: the row's number, from 1)."""


class Columns(Strict):
    """Where a document's fields stand in its row."""

    url: Address = "{url}"
    text: str = "text"
    title: str | None = None
    date: str | None = None
    """A date or time (ISO 8601 in JSON); without it all rows belong to the corpus' first day."""


class SampleColumns(Strict):
    """Where a recorded generation stands in a table: its source's address, its text, and which sample it is."""

    url: Address = "{url}"
    text: str = "text"
    sample: str
    """The column that tells a document's samples apart: a translation's name, a style, a number."""
    order: list[Value] = Field(min_length=1)
    """Its values in the order of the samples: the first is sample 0. G generations are the first G of these."""
