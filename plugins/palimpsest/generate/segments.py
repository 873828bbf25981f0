"""The ledger's files: immutable Parquet segments, each named by the digest of its bytes and checked on every read.

A segment appears whole or not at all. One whose bytes no longer match its name, or that is no Parquet, is set aside
under ``ledger/damaged/``. One that is gone since the folder was listed was merged into another, so the folder is
listed again: no row is lost to a reader, though it may meet one twice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.durable import make_directory, move_durably, partial_beside, sweep
from palimpsest.lake import Lake

log = logging.getLogger(__name__)

FOLDER, DAMAGED = "ledger/segments", "ledger/damaged"
NAME = re.compile(r"[0-9a-f]{64}\.parquet")
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("text", pa.string()),  # null: the engine could not answer; see cause
        ("cause", pa.string()),
        ("detail", pa.string()),
        ("finish_reason", pa.string()),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("engine_seconds", pa.float64()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
    ]
)
GROUP_ROWS = 2_048
"""Rows per row group: so many texts of a segment are in memory at once."""

Row = dict[str, Any]


class Vanished(Exception):
    """Another compactor was first."""


class Segments:
    """The segments of a lake's ledger."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.folder = f"{lake.base}/{FOLDER}"
        self.damaged: list[str] = []
        """Segments set aside since this was opened."""

    def list(self) -> dict[str, int]:
        """Name and bytes of every segment, in name order; what dead writers left half written is swept on the way."""
        if self.lake.local:
            found = {}
            with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        sweep(Path(entry.path))
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        found[entry.name] = entry.stat().st_size
        else:
            try:
                with self.lake.weather():
                    listed = self.lake.fs.ls(self.folder, detail=True)
            except FileNotFoundError:
                listed = []
            found = {str(entry["name"]).rsplit("/", 1)[-1]: int(entry["size"]) for entry in listed}
            self._forget_copies(found)
        return {name: found[name] for name in sorted(found) if NAME.fullmatch(name)}

    def write(self, content: bytes) -> str:
        """One more segment of this content, durable when this returns; its name."""
        name = f"{hashlib.sha256(content).hexdigest()}.parquet"
        self.lake.write_file(f"{FOLDER}/{name}", content)
        return name

    def put(self, file: Path) -> str:
        """One more segment from a local file, checked again where it lies before this returns; its name.

        Raises:
            Vanished: Another process has merged it already.
            ConnectionError: It lies there damaged.
        """
        with file.open("rb") as stream:
            name = f"{hashlib.file_digest(stream, 'sha256').hexdigest()}.parquet"
        if self.lake.local:
            make_directory(Path(self.folder))
            move_durably(file, Path(self.folder, name))
        else:
            with self.lake.weather():
                self.lake.fs.put_file(str(file), f"{self.folder}/{name}")
        file = self.open(name)
        if file is None and name not in self.damaged:
            raise Vanished(name)
        if file is None:
            raise ConnectionError(f"ledger segment {name} could not be read back; nothing was deleted, run this again")
        file.close(force=True)
        return name

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self.lake.weather():
            self.lake.fs.rm_file(f"{self.folder}/{name}")
        if not self.lake.local:
            self._copy(name).unlink(missing_ok=True)

    def verified(self, skip: set[str] = frozenset()) -> Iterator[tuple[str, pq.ParquetFile]]:
        """Every sound segment but those in ``skip``, one open at a time, until a listing shows nothing new."""
        seen = set(skip)
        while fresh := [name for name in self.list() if name not in seen]:
            for name in fresh:
                seen.add(name)
                file = self.open(name)
                if file is not None:
                    try:
                        yield name, file
                    finally:
                        file.close(force=True)

    def open(self, name: str) -> pq.ParquetFile | None:
        """The segment, its digest checked; None if it is gone, or was damaged and has been set aside.

        What was checked is what is read: the file stays open, whoever deletes or replaces it meanwhile.
        """
        for again in (False, True):
            try:
                stream = self._stream(name)
                if hashlib.file_digest(stream, "sha256").hexdigest() == name.removesuffix(".parquet"):
                    stream.seek(0)
                    file = pq.ParquetFile(stream)
                    if "key" in file.schema_arrow.names:
                        return file
            except FileNotFoundError:
                return None
            except pa.ArrowInvalid:
                pass
            except OSError as error:
                if not self.lake.local or error.errno != errno.EIO:  # an unreadable place on the disk does not pass
                    raise
            if self.lake.local:
                break
            if not again:  # the copy may be at fault, not the original
                self._copy(name).unlink(missing_ok=True)
        self._set_aside(name)
        return None

    def _stream(self, name: str) -> BinaryIO:
        if self.lake.local:
            return open(f"{self.folder}/{name}", "rb")
        copy = self._copy(name)
        with contextlib.suppress(FileNotFoundError):
            return copy.open("rb")
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_beside(copy)
        try:
            with self.lake.weather():
                self.lake.fs.get_file(f"{self.folder}/{name}", str(partial))
            stream = partial.open("rb")  # before it has its name: a process that listed earlier may clear it away
            os.replace(partial, copy)
        finally:
            partial.unlink(missing_ok=True)
        return stream

    def _copy(self, name: str) -> Path:
        return self.lake.copies() / FOLDER / name

    def _forget_copies(self, present: dict[str, int]) -> None:
        folder = self.lake.copies() / FOLDER
        for copy in folder.iterdir() if folder.exists() else ():
            sweep(copy)
            if copy.name not in present and NAME.fullmatch(copy.name):
                copy.unlink(missing_ok=True)

    def _set_aside(self, name: str) -> None:
        path, aside = f"{self.folder}/{name}", f"{self.lake.base}/{DAMAGED}/{name}"
        with contextlib.suppress(FileNotFoundError), self.lake.weather():  # another process was first
            self.lake.fs.makedirs(f"{self.lake.base}/{DAMAGED}", exist_ok=True)
            self.lake.fs.mv(path, aside)
            self.damaged.append(name)
            log.warning("ledger segment %s is damaged: moved to %s; its rows will be generated again", path, aside)


def serialized(table: pa.Table) -> bytes:
    """The table as a segment's content."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=GROUP_ROWS)
    return buffer.getvalue()


def rows_of(file: pq.ParquetFile, keys: Container[str] | None, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A segment's rows of ``keys``, or all, by row group; a column that an old segment lacks is null."""
    present = [name for name in names if name in file.schema_arrow.names]
    for group in range(file.num_row_groups):
        mask = None
        if keys is not None:
            mask = pa.array([key in keys for key in file.read_row_group(group, ["key"])["key"].to_pylist()], pa.bool_())
            if not mask.true_count:
                continue
        table = file.read_row_group(group, present)
        for name in names:
            if name not in present:
                table = table.append_column(name, pa.nulls(table.num_rows, SCHEMA.field(name).type))
        table = table.select(names).cast(pa.schema([SCHEMA.field(name) for name in names]))
        yield from (table if mask is None else table.filter(mask)).to_batches()


def preference(row: Row) -> tuple:
    """Sorts rows of one key: a text before a failure, then by content, wherever they were found."""
    return (row["text"] is None, *((row[name] is None, str(row[name])) for name in SCHEMA.names))
