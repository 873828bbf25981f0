"""From a study's mixes to token files: one stream per layout, and the held-out documents.

Every distinct text is encoded once, however many layouts hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows

CODE = ("training/pack.py", "plugins/palimpsest/tokenizer.py")
ENCODE_TEXTS = 4096  # texts per encode_batch call: bounds the memory of its Python objects


@dataclass(frozen=True)
class Encoded:
    """Token ids of many texts, end to end."""

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def tokenize(study: Study, lake: Lake, *, split: Published, mixes: Published) -> Published:
    """``studies/<study>/tokens``: per layout the stream and its index, and the validation documents.

    Token files are little-endian unsigned integers, 16 bits where the vocabulary fits. A stream is the layout's parts
    in (position, part) order, the boundary token after every part that ends a row. ``validation.bin`` holds each
    document and its closing boundary.
    """

    def write(directory: Path) -> Facts:
        tokenizer = tok.load(split.file("tokenizer.json"))
        dtype = np.dtype("<u2" if tokenizer.get_vocab_size() < 2**16 else "<u4")
        parts = pq.read_table(mixes.file("megadoc_parts.parquet"))
        texts = pc.dictionary_encode(pc.cast(parts["text"], pa.large_string())).combine_chunks()
        boundary = tokenizer.token_to_id(tok.BOUNDARY)
        encoded = encode(tokenizer, texts.dictionary.to_pylist(), dtype)
        parts = parts.drop_columns(["text"]).append_column("text_number", texts.indices)
        streams = {}
        for layout in sorted(parts["layout"].unique().to_pylist()):
            rows = parts.filter(pc.equal(parts["layout"], layout))
            rows = rows.sort_by([("position", "ascending"), ("part", "ascending")])
            streams[layout] = _write_stream(directory, layout, rows, encoded, boundary)
        documents = pq.read_table(split.file("validation.parquet")).sort_by("document_id")
        held_out = encode(tokenizer, documents["text"].to_pylist(), dtype)
        validation = _write_validation(directory, documents, held_out, boundary)
        (directory / "tokenizer.json").write_bytes(split.file("tokenizer.json").read_bytes())
        return Facts(
            Rows(input=len(parts), kept=len(parts)),
            {
                "dtype": dtype.str,
                "vocabulary": tokenizer.get_vocab_size(),
                "boundary": boundary,
                "streams": streams,
                "validation_tokens": validation,
            },
        )

    return lake.publish(f"studies/{study.name}/tokens", write, parents=[split, mixes], code=CODE)


def encode(tokenizer: Tokenizer, texts: list[str], dtype: np.dtype) -> Encoded:
    chunks, lengths = [np.empty(0, dtype)], []
    for start in range(0, len(texts), ENCODE_TEXTS):
        batch = tokenizer.encode_batch_fast(texts[start : start + ENCODE_TEXTS], add_special_tokens=False)
        found = [encoding.ids for encoding in batch]
        lengths += map(len, found)
        chunks.append(np.concatenate([np.asarray(ids, dtype) for ids in found]))
    lengths = np.asarray(lengths, np.int64)
    return Encoded(np.concatenate(chunks), _starts(lengths), lengths)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths


def _assemble(encoded: Encoded, number: np.ndarray, ends: np.ndarray, boundary: int) -> tuple[np.ndarray, np.ndarray]:
    """The chosen texts end to end, the boundary after those that end a row; and each one's length with it."""
    plain = encoded.lengths[number]
    lengths = plain + ends
    stream = np.full(lengths.sum(), boundary, encoded.ids.dtype)
    within = np.arange(plain.sum()) - np.repeat(_starts(plain), plain)
    stream[np.repeat(_starts(lengths), plain) + within] = encoded.ids[np.repeat(encoded.starts[number], plain) + within]
    return stream, lengths


def _write_stream(directory: Path, layout: str, rows: pa.Table, encoded: Encoded, boundary: int) -> int:
    number, ends = rows["text_number"].to_numpy(), rows["ends_row"].to_numpy().astype(np.int64)
    stream, lengths = _assemble(encoded, number, ends, boundary)
    wrong = np.flatnonzero(lengths != rows["tokens"].to_numpy())
    if len(wrong):
        row = rows.slice(wrong[0], 1).to_pylist()[0]
        raise LakeError(
            f"megadoc_parts: layout {layout}, megadoc {row['megadoc_id']}, part {row['part']} says {row['tokens']} "
            f"tokens, its text encodes to {lengths[wrong[0]]} ({len(wrong)} such parts); "
            "the mixes were made with another tokenizer: run split, plan and mixes again"
        )
    position = rows["position"].to_numpy()
    first = np.flatnonzero(np.diff(position, prepend=-1))
    starts = _starts(lengths)[first]
    index = pa.table(
        {
            "position": position[first],
            "megadoc_id": rows["megadoc_id"].take(pa.array(first)),
            "start": starts,
            "tokens": np.diff(starts, append=len(stream)),
        }
    )
    stream.tofile(directory / f"{layout}.bin")
    pq.write_table(index, directory / f"{layout}.index.parquet")
    return len(stream)


def _write_validation(directory: Path, documents: pa.Table, encoded: Encoded, boundary: int) -> int:
    everything = np.arange(len(documents))
    stream, lengths = _assemble(encoded, everything, np.ones_like(everything), boundary)
    index = documents.select(["document_id", "is_short", "is_long"])
    index = index.add_column(1, "start", pa.array(_starts(lengths))).add_column(2, "tokens", pa.array(lengths))
    stream.tofile(directory / "validation.bin")
    pq.write_table(index, directory / "validation.index.parquet")
    return len(stream)
