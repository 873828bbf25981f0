"""A study's named held-out sets as documents, less those that the training text holds a part of."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import ConfigError, HeldOutSet, Study, resolve
from palimpsest.lake import LakeError, Published, digest_file
from palimpsest.table import read_table
from palimpsest.words import SharedRuns

DOCUMENTS = pa.schema([(name, pa.string()) for name in ("set", "document_id", "text")])
DROPS = pa.schema([(name, pa.string()) for name in ("set", "document_id", "reason", "training_document_id", "shared")])

log = logging.getLogger(__name__)


def identity(study: Study) -> dict:
    """What the sets depend on besides the training text: their settings and the content of their files."""
    if not study.validation.sets:
        return {}
    found = {
        name: held_out.model_dump(mode="json") | {"digests": [digest_file(file) for file in _files(name, held_out)]}
        for name, held_out in study.validation.sets.items()
    }
    return {"sets": found, "ngram": study.gates.validation_ngram}


def read(study: Study, mixes: Published) -> tuple[pa.Table, pa.Table]:
    """Documents of all sets as `DOCUMENTS`, and those left out as `DROPS`.

    A document is left out (and a warning says so) if it shares a run of ``gates.validation_ngram`` words with a text
    of the mixes, real or generated. Raises `LakeError` if that leaves a set without any.
    """
    rows = [
        {"set": name, "document_id": f"{name}/{number}", "text": text}
        for name, held_out in study.validation.sets.items()
        for number, text in _documents(name, held_out).items()
    ]
    drops = {place: {"reason": "empty"} for place, row in enumerate(rows) if not row["text"].strip()}
    words = study.gates.validation_ngram
    for place, (theirs, run) in shared_runs([row["text"] for row in rows], _training_texts(mixes), words).items():
        drops[place] = {"reason": "leaked", "training_document_id": theirs, "shared": run}
    for name in study.validation.sets:
        _explain(name, rows, drops, words)
    kept = [row for place, row in enumerate(rows) if place not in drops]
    left = [
        {"set": rows[place]["set"], "document_id": rows[place]["document_id"], **why} for place, why in drops.items()
    ]
    return pa.Table.from_pylist(kept, DOCUMENTS), pa.Table.from_pylist(left, DROPS)


def shared_runs(held: Sequence[str], training: Iterable[tuple[str, str]], words: int) -> dict[int, tuple[str, str]]:
    """Which of the held texts share a run of so many words with a training text: whose (id, text), and the run."""
    index = SharedRuns(held, words)
    found: dict[int, tuple[str, str]] = {}
    for name, text in training:
        for place, run in index.hits(text):
            found.setdefault(place, (name, run))
    return found


def _training_texts(mixes: Published) -> Iterator[tuple[str, str]]:
    """Every distinct text of the mixes, with the document it is (or was made) of."""
    seen = set()
    for batch in pq.ParquetFile(mixes.file("megadoc_parts.parquet")).iter_batches(512, columns=["document_id", "text"]):
        for name, text in zip(*(batch[column].to_pylist() for column in ("document_id", "text")), strict=True):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                yield name, text


def _explain(name: str, rows: Sequence[dict], drops: dict[int, dict], words: int) -> None:
    own = [place for place, row in enumerate(rows) if row["set"] == name]
    leaked = [place for place in own if drops.get(place, {}).get("reason") == "leaked"]
    if leaked:
        first = drops[leaked[0]]
        example = (
            f"{rows[leaked[0]]['document_id']} and training document {first['training_document_id']} both hold "
            f"“{first['shared']}”"
        )
    if own and all(place in drops for place in own):
        why = f"share a run of {words} words with the training text ({example})" if leaked else "are empty"
        raise LakeError(
            f"validation.sets.{name}: all {len(own)} documents {why}; choose other text"
            + (", or raise gates.validation_ngram" if leaked else "")
        )
    if leaked:
        log.warning(
            "validation.sets.%s: %d of %d documents are left out, for a run of %d words in the training text: %s",
            name, len(leaked), len(own), words, example,
        )  # fmt: skip


def _documents(name: str, held_out: HeldOutSet) -> dict[str, str]:
    """Texts by the value that joins them, or by file and row."""
    found: dict[str, list[str]] = {}
    files, columns = _files(name, held_out), [held_out.text, *([held_out.join] if held_out.join else [])]
    labels = [file.name for file in files]
    if len(set(labels)) < len(labels):
        labels = [f"{number}-{label}" for number, label in enumerate(labels, 1)]
    for file, label in zip(files, labels, strict=True):
        for number, _, row in read_table(file, columns, held_out.where, f"validation.sets.{name}: {file}"):
            for column in columns:
                if row.get(column) is None or (column == held_out.text and not isinstance(row[column], str)):
                    raise LakeError(f"validation.sets.{name}: {file}, row {number}: '{column}' is no text; correct it")
            if held_out.join is None and len(found) == held_out.max_documents:
                break
            key = str(row[held_out.join]) if held_out.join else f"{label}#{number}"
            found.setdefault(key, []).append(row[held_out.text])
    if not found:
        raise LakeError(f"validation.sets.{name}: its files hold no row that fits its 'where'; correct it")
    return {key: "\n\n".join(texts) for key, texts in list(found.items())[: held_out.max_documents]}


def _files(name: str, held_out: HeldOutSet) -> list[Path]:
    files = {pattern: sorted(glob(str(resolve(pattern)))) for pattern in held_out.files}
    for pattern, found in files.items():
        if not found:
            raise ConfigError(
                f"validation.sets.{name}.files: no file {resolve(pattern)}; correct the path or create it"
            )
    return [Path(file) for found in files.values() for file in found]
