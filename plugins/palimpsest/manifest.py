"""What a published dataset says of itself: its rows, files, digests; and the errors about it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import fsspec
import pyarrow.parquet as pq

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
REPOSITORY = Path(os.environ.get("PALIMPSEST_HOME") or Path(__file__).resolve().parents[2])


class LakeError(ValueError):
    """Bad data or an impossible request: retrying cannot help."""


class NotPublished(LakeError):
    """A dataset that a stage needs has not been published."""


class Corrupt(LakeError):
    """A published file no longer matches its manifest."""


@dataclass(frozen=True)
class Rows:
    """Row conservation of one stage: every input row is kept, dropped for a reason, or quarantined for a cause."""

    input: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        dropped, quarantined = dict(self.dropped), dict(self.quarantined)
        return {"input": self.input, "kept": self.kept, "dropped": dropped, "quarantined": quarantined}

    def check(self, dataset: str) -> None:
        accounted = self.kept + sum(self.dropped.values()) + sum(self.quarantined.values())
        if accounted != self.input:
            raise LakeError(
                f"{dataset}: {self.input} rows came in but {accounted} are accounted for "
                f"(kept {self.kept}, dropped {dict(self.dropped)}, quarantined {dict(self.quarantined)}); "
                "nothing was published. This is a bug in the stage, not in the data."
            )


@dataclass(frozen=True)
class Facts:
    """What a stage says of what it wrote: its row balance, and anything worth keeping in the manifest."""

    rows: Rows | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


def digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def digest_code(*sources: str) -> str:
    """Digest of source files and folders, named relative to the repository: part of every dataset's key.

    Of Python what runs: comments, docstrings and blank lines may change, and what was paid for is still found.
    """
    found = hashlib.sha256()
    for source in sources:
        start = REPOSITORY / source
        files = sorted(start.rglob("*")) if start.is_dir() else [start]
        for file in files:
            if file.suffix in {".py", ".sql", ".yml", ".yaml", ".txt", ".html", ".j2"} and "target" not in file.parts:
                content = file.read_bytes()
                said = what_runs(content.decode()).encode() if file.suffix == ".py" else content
                found.update(str(file.relative_to(REPOSITORY)).encode() + b"\0" + said + b"\0")
    return found.hexdigest()


@lru_cache(maxsize=1024)
def what_runs(source: str) -> str:
    """Python source without comments, statements that are but a string (docstrings), and blank lines.

    What stands inside of other strings stays as it is, to the last space.
    """
    lines, blank, cuts, statement = source.split("\n"), set(), [], []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            cuts.append((token.start, token.end))
        elif token.type == tokenize.NL:
            blank.add(token.start[0])
        elif token.type == tokenize.NEWLINE:
            if all(part.type == tokenize.STRING for part in statement):
                cuts.append((statement[0].start, statement[-1].end))
            statement = []
        elif token.type not in (tokenize.INDENT, tokenize.DEDENT):
            statement.append(token)
    for (first, start), (last, end) in reversed(cuts):
        lines[first - 1 : last] = [(lines[first - 1][:start] + lines[last - 1][end:]).rstrip(), *[""] * (last - first)]
        blank.update(range(first, last + 1))
    kept = [line for number, line in enumerate(lines, 1) if line.strip() or number not in blank]
    return "\n".join(kept).rstrip("\n")


def describe_files(directory: Path) -> dict[str, object]:
    files = []
    for file in sorted(f for f in directory.rglob("*") if f.is_file()):
        entry = {"name": str(file.relative_to(directory)), "bytes": file.stat().st_size, "sha256": digest_file(file)}
        if file.suffix == ".parquet":
            entry["rows"] = pq.read_metadata(file).num_rows
        files.append(entry)
    content = [[f["name"], f["sha256"]] for f in files]
    return {"files": files, "bytes": sum(f["bytes"] for f in files), "digest": digest_json(content)}


def check_files(fs: fsspec.AbstractFileSystem, directory: str, manifest: Mapping[str, object]) -> None:
    """Raise `Corrupt` unless every file of the manifest is in ``directory`` with the content it had when published."""
    for entry in manifest["files"]:
        file = f"{directory}/{entry['name']}"
        try:
            with fs.open(file, "rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            found = "none"
        if found != entry["sha256"]:
            raise Corrupt(f"{file} no longer matches its manifest; delete {directory} and run its stage again")
