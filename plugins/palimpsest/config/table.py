"""Columns of a table (JSON lines or Parquet), by the names they have there."""

from __future__ import annotations

import string
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from palimpsest.config.base import Strict

ROW = "row"
"""In a template: the number of the row in its file, from 1; for tables without a key of their own."""
PIECE = "piece"
"""In a template: the number of a row's piece, from 1; for tables whose texts are cut (`Texts.pieces`)."""
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


class Texts(Strict):
    """Where a text and its address stand in a row, and whether the row is one text or several."""

    url: Address = "{url}"
    text: str = "text"
    pieces: int = Field(default=1, ge=1)
    """Each text is cut into this many, of as many words each. Versions of one text, such as translations, are so cut at
    about the same places: piece k of the one says what piece k of the other does."""

    @model_validator(mode="after")
    def _addressed(self) -> Texts:
        if self.pieces > 1 and PIECE not in template_columns(self.url):
            raise ValueError(f"with pieces: {self.pieces} each piece needs its own address; write {{piece}} in url")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Whole texts are written as before there were pieces, so that no dataset made of them is made anew."""
        return {key: value for key, value in dump(self).items() if (key, value) != ("pieces", 1)}


class Columns(Texts):
    """Where a document's fields stand in its row."""

    title: str | None = None
    date: str | None = None
    """A date or time (ISO 8601 in JSON); without it all rows belong to the corpus' first day."""


class SampleColumns(Texts):
    """Where a recorded generation stands in a table: its source's address, its text, and which sample it is."""

    sample: str
    """The column that tells a document's samples apart: a translation's name, a style, a number."""
    order: list[Value] = Field(min_length=1)
    """Its values in the order of the samples: the first is sample 0. G generations are the first G of these."""
