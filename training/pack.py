"""From a study's mixes to token files: one stream per layout, and the held-out documents of all sets.

Every distinct text is encoded once, however many layouts hold it. Texts and token ids stream through: what stays in
memory grows with the number of parts, not with their length.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows
from training import heldout

CODE = ("training/pack.py", "training/heldout.py") + tuple(
    f"plugins/palimpsest/{name}.py" for name in ("table", "tokenizer", "words")
)
READ_PARTS = 512  # texts in memory at once
ENCODE_CHARACTERS = 2**20  # per encode_batch call, or one text: its objects take 100 bytes and more per token
CHUNK_TOKENS = 2**22  # tokens put together at once: their places in the scratch file take 16 bytes each


def tokenize(study: Study, lake: Lake, *, split: Published, mixes: Published) -> Published:
    """``studies/<study>/tokens``: per layout the stream and its indexes, and the validation documents.

    Token files are little-endian unsigned integers, 16 bits where the vocabulary fits. A stream is the layout's parts
    in (position, part) order, the boundary token after every part that ends a row. ``<layout>.index.parquet`` says
    where each megadoc starts, ``<layout>.parts.parquet`` where each part does, of which document and kind.
    ``validation.bin`` holds each held-out document and its closing boundary: the study's own, then those of its named
    sets, whose drops are in ``validation_drops.parquet``. With another set all runs are trained again.
    """

    def write(directory: Path) -> Facts:
        tokenizer = tok.load(split.file("tokenizer.json"))
        dtype = np.dtype("<u2" if tokenizer.get_vocab_size() < 2**16 else "<u4")
        boundary = tokenizer.token_to_id(tok.BOUNDARY)
        with tempfile.TemporaryFile(dir=directory) as scratch:
            texts = Encoded(tokenizer, dtype, scratch)
            parts = _encode_parts(mixes.file("megadoc_parts.parquet"), texts)
            streams = {}
            for layout in sorted(parts["layout"].unique().to_pylist()):
                rows = parts.filter(pc.equal(parts["layout"], layout))
                rows = rows.sort_by([("position", "ascending"), ("part", "ascending")])
                streams[layout] = _write_stream(directory, layout, rows, texts, boundary)
        with tempfile.TemporaryFile(dir=directory) as scratch:
            texts = Encoded(tokenizer, dtype, scratch)
            documents = pq.read_table(split.file("validation.parquet")).sort_by("document_id")
            further, drops = heldout.read(study, mixes)
            documents = pa.concat_tables([documents, further], promote_options="default")
            number = texts.add(documents["text"].to_pylist())
            validation = _write_validation(directory, documents, number, texts, boundary)
        (directory / "tokenizer.json").write_bytes(split.file("tokenizer.json").read_bytes())
        pq.write_table(drops, directory / "validation_drops.parquet")
        kept = len(parts) + len(further)
        return Facts(
            Rows(input=kept + len(drops), kept=kept, dropped=Counter(drops["reason"].to_pylist())),
            {
                "dtype": dtype.str,
                "vocabulary": tokenizer.get_vocab_size(),
                "boundary": boundary,
                "streams": streams,
                "validation_tokens": validation,
            },
        )

    config = heldout.identity(study)
    return lake.publish(f"studies/{study.name}/tokens", write, config=config, parents=[split, mixes], code=CODE)


class Encoded:
    """Token ids of distinct texts, end to end in a scratch file."""

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype, scratch: IO[bytes]) -> None:
        self.tokenizer, self.dtype, self.scratch = tokenizer, dtype, scratch
        self.numbers: dict[bytes, int] = {}
        self.sizes = array("q")

    def add(self, texts: Sequence[str]) -> np.ndarray:
        """The number of each text; those not seen before are encoded."""
        digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        known = len(self.numbers)
        for digest in digests:
            self.numbers.setdefault(digest, len(self.numbers))
        new: dict[int, str] = {}
        for digest, text in zip(digests, texts, strict=True):
            if self.numbers[digest] >= known:
                new.setdefault(self.numbers[digest], text)
        found = list(new.values())
        if found:
            group = np.cumsum([len(text) for text in found]) // ENCODE_CHARACTERS
            cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(found)]
            for start, stop in pairwise(cuts):
                self._encode(found[start:stop])
        return np.array([self.numbers[digest] for digest in digests], np.int64)

    def _encode(self, texts: list[str]) -> None:
        for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids = np.asarray(encoding.ids, self.dtype)
            self.sizes.append(len(ids))
            self.scratch.write(ids.tobytes())

    def lengths(self, number: np.ndarray) -> np.ndarray:
        """Tokens of each of these texts."""
        return np.frombuffer(self.sizes, np.int64)[number] if len(self.sizes) else np.zeros(0, np.int64)

    def assembled(self, number: np.ndarray, ends: np.ndarray, boundary: int) -> Iterator[np.ndarray]:
        """The chosen texts end to end in pieces, the boundary after those that end a row."""
        self.scratch.flush()
        size = sum(self.sizes)
        ids = np.memmap(self.scratch, self.dtype, mode="r", shape=(size,)) if size else np.empty(0, self.dtype)
        starts = _starts(np.frombuffer(self.sizes, np.int64))
        piece = np.cumsum(self.lengths(number) + ends) // CHUNK_TOKENS
        for cut in np.split(np.arange(len(number)), np.flatnonzero(np.diff(piece)) + 1):
            plain = self.lengths(number[cut])
            lengths = plain + ends[cut]
            stream = np.full(lengths.sum(), boundary, self.dtype)
            within = np.arange(plain.sum()) - np.repeat(_starts(plain), plain)
            stream[np.repeat(_starts(lengths), plain) + within] = ids[np.repeat(starts[number[cut]], plain) + within]
            yield stream


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.cumsum(lengths) - lengths


def _encode_parts(file: Path, texts: Encoded) -> pa.Table:
    """Every part without its text, and its text's number."""
    names = ("layout", "position", "megadoc_id", "part", "kind", "document_id", "tokens", "ends_row")
    batches = []
    stored = pq.ParquetFile(file)
    for batch in stored.iter_batches(READ_PARTS, columns=[*names, "text"]):
        number = pa.array(texts.add(batch["text"].to_pylist()))
        batches.append(batch.drop_columns(["text"]).append_column("text_number", number))
    return pa.Table.from_batches(batches)


def _write_stream(directory: Path, layout: str, rows: pa.Table, texts: Encoded, boundary: int) -> int:
    number, ends = rows["text_number"].to_numpy(), rows["ends_row"].to_numpy().astype(np.int64)
    lengths = texts.lengths(number) + ends
    wrong = np.flatnonzero(lengths != rows["tokens"].to_numpy())
    if len(wrong):
        row = rows.slice(wrong[0], 1).to_pylist()[0]
        raise LakeError(
            f"megadoc_parts: layout {layout}, megadoc {row['megadoc_id']}, part {row['part']} says {row['tokens']} "
            f"tokens, its text encodes to {lengths[wrong[0]]} ({len(wrong)} such parts); "
            "the mixes were made with another tokenizer: run split, plan and mixes again"
        )
    position, total = rows["position"].to_numpy(), int(lengths.sum())
    first = np.flatnonzero(np.diff(position, prepend=-1))
    starts = _starts(lengths)
    index = pa.table(
        {
            "position": position[first],
            "megadoc_id": rows["megadoc_id"].take(pa.array(first)),
            "start": starts[first],
            "tokens": np.diff(starts[first], append=total),
        }
    )
    parts = rows.select(["position", "part", "kind", "document_id", "tokens", "ends_row"])
    _write_tokens(directory / f"{layout}.bin", texts, number, ends, boundary)
    pq.write_table(index, directory / f"{layout}.index.parquet")
    pq.write_table(parts.add_column(0, "start", pa.array(starts)), directory / f"{layout}.parts.parquet")
    return total


def _write_tokens(file: Path, texts: Encoded, number: np.ndarray, ends: np.ndarray, boundary: int) -> None:
    with file.open("wb") as target:
        for piece in texts.assembled(number, ends, boundary):
            piece.tofile(target)


def _write_validation(directory: Path, documents: pa.Table, number: np.ndarray, texts: Encoded, boundary: int) -> int:
    ends = np.ones(len(number), np.int64)
    lengths = texts.lengths(number) + ends
    index = documents.select(["document_id", "set", "is_short", "is_long"])
    index = index.add_column(1, "start", pa.array(_starts(lengths))).add_column(2, "tokens", pa.array(lengths))
    _write_tokens(directory / "validation.bin", texts, number, ends, boundary)
    pq.write_table(index, directory / "validation.index.parquet")
    return int(lengths.sum())
