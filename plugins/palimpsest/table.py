"""Rows of a table on disk, JSON lines or Parquet, whole or a `LakeError` that names file and row."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config.table import PIECE, ROW, Texts, template_columns
from palimpsest.lake import LakeError

LINES = (".jsonl", ".ndjson", ".json")
CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
BATCH = 16  # rows of a Parquet file in memory: each may be as long as a page, which its metadata do not say
BUFFER = 1 << 20  # bytes of a Parquet column in memory
Row = dict[str, Any]


class Overlong(NamedTuple):
    """A line of JSON lines that is longer than what may be read of it."""

    head: bytes
    size: int
    """Bytes of the whole line."""


def read_table(
    path: Path,
    columns: Collection[str],
    where: Mapping[str, object] | None = None,
    name: str = "",
    longest: int | None = None,
) -> Iterator[tuple[int, int, Row | Overlong]]:
    """(number from 1, bytes of the file read so far, the row) for each row, in file order; memory for one batch.

    Only ``columns`` and those of ``where`` are read, and only rows with the values of ``where`` are given. With
    ``longest``, what a line of JSON has beyond so many bytes is not kept: the row is an `Overlong`, whatever ``where``
    says. Raises `LakeError` for a column the file does not have, a row that is no JSON object, and a file that is cut
    off.
    """
    name = name or str(path)
    where = dict(where or {})
    wanted = {*columns, *where}
    kind = path.with_suffix("") if path.suffix in CODECS else path
    if path.suffix == ".parquet":
        rows = _parquet(path, wanted, name)
    elif kind.suffix in LINES:
        rows = _lines(path, wanted, name, longest)
    else:
        raise LakeError(
            f"{name}: '{''.join(path.suffixes)}' is no table that can be read; write it as .parquet or .jsonl "
            f"({', '.join(CODECS)} may follow)"
        )
    for number, position, row in rows:
        if isinstance(row, Overlong) or all(row.get(key) == value for key, value in where.items()):
            yield number, position, row


def pieces(row: Row, columns: Texts, name: str) -> Iterator[Row]:
    """The row itself, or with ``columns.pieces`` one per piece of its text, of as many words each, give or take one.

    A text with fewer words than pieces gives fewer, a row without text is its own first piece. Raises `LakeError` for
    a table (called ``name``) that is to be cut and has a column 'piece' of its own.
    """
    if columns.pieces > 1 and PIECE in row:
        raise LakeError(f"{name}: the table has a column '{PIECE}' of its own; rename it, or leave out 'pieces'")
    text = row.get(columns.text)
    if columns.pieces == 1 or not isinstance(text, str) or not text.strip():
        yield {PIECE: 1} | row
        return
    words = text.split()
    count = min(columns.pieces, len(words))
    cuts = [len(words) * piece // count for piece in range(count + 1)]
    for piece, (start, end) in enumerate(itertools.pairwise(cuts), 1):
        yield row | {PIECE: piece, columns.text: " ".join(words[start:end])}


def fill(template: str, row: Row, number: int) -> str | None:
    """The template with the row's values, or None where one is missing.

    A template that is one column alone gives it as it stands; in a longer one each value is quoted for a URL. Raises
    `UnicodeEncodeError` for one that holds half a surrogate pair, which JSON can write.
    """
    named = template_columns(template)
    values = {column: row.get(column) if column != ROW or ROW in row else number for column in named}
    if any(value is None or value == "" for value in values.values()):
        return None
    if template == f"{{{named[0]}}}":
        return str(values[named[0]])
    return template.format(**{column: quote(str(value), safe="") for column, value in values.items()})


def _parquet(path: Path, wanted: set[str], name: str) -> Iterator[tuple[int, int, Row]]:
    size, number = path.stat().st_size, 0
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER) as file:
            _check_columns(set(file.schema_arrow.names), wanted, name)
            total = max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(BATCH, columns=sorted(wanted & set(file.schema_arrow.names))):
                for row in batch.to_pylist():
                    number += 1
                    yield number, size * number // total, row
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, number, error) from None


def _lines(path: Path, wanted: set[str], name: str, longest: int | None) -> Iterator[tuple[int, int, Row | Overlong]]:
    number, keys, unseen = 0, set(), set(wanted)
    with path.open("rb") as raw:
        try:
            stream = opened(raw, path)
            while line := stream.readline(-1 if longest is None else longest + 1):
                number += 1
                if longest is not None and len(line) > longest:
                    yield number, raw.tell(), Overlong(line, len(line) + _skip_line(stream, line))
                    continue
                if not line.strip():
                    continue
                row = _object(line, name, number)
                if unseen:
                    keys |= row.keys()
                    unseen -= row.keys()
                yield number, raw.tell(), row
        except (pa.ArrowException, OSError) as error:
            raise _damaged(name, number, error) from None
    _check_columns(keys if unseen else set(wanted), wanted, name)


def opened(raw: BinaryIO, path: Path) -> BinaryIO:
    """The content of an open file, compressed as its name says; `OSError` where it is damaged or cut off."""
    if path.suffix not in CODECS:
        return raw
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), CODECS[path.suffix]))


def _skip_line(stream: BinaryIO, line: bytes) -> int:
    """Bytes of the rest of the line, of which ``line`` was read."""
    size = 0
    while not line.endswith(b"\n") and (line := stream.readline(BUFFER)):
        size += len(line)
    return size


def _object(line: bytes, name: str, number: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LakeError(
            f"{name}: row {number}: no JSON ({error}); mend the row or fetch the file again (nothing of it was used)"
        ) from None
    if not isinstance(row, dict):
        raise LakeError(f"{name}: row {number}: a JSON object is expected, found {type(row).__name__}; mend the row")
    return row


def _check_columns(found: Collection[str], wanted: Collection[str], name: str) -> None:
    missing = sorted(set(wanted) - set(found) - {ROW, PIECE})
    if missing and not found:
        raise LakeError(f"{name}: no row in it, so no column '{missing[0]}'; fetch it again or take it out of 'files'")
    if missing:
        raise LakeError(
            f"{name}: no column '{missing[0]}'; it has {', '.join(sorted(found))}; correct 'columns' or "
            "'where' where the file is named"
        )


def _damaged(name: str, number: int, error: Exception) -> LakeError:
    return LakeError(f"{name}: damaged after row {number}: {error}; fetch the file again (nothing of it was used)")
