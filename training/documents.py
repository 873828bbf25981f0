"""Which document, megadoc and kind of text each token of a stream is from: the ``<layout>.parts.parquet`` files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.data import Sequences

REAL = ("real", "slice")  # kinds of parts that people wrote; the others are synthetic
RATIONALE = ("rationale",)  # kinds of parts that stand between marks


@dataclass(frozen=True)
class Parts:
    """The parts of a stream in order; a part's closing boundary token belongs to it."""

    starts: np.ndarray
    row: np.ndarray
    """Per part: number of the row (document) it is in; a boundary token ends a row."""
    megadoc: np.ndarray
    """Per part: the megadoc's position in the stream."""
    real: np.ndarray
    """Per part: did people write it?"""
    ends: np.ndarray
    """Per part: does a boundary token close it?"""
    rationale: np.ndarray
    """Per part: is it a rationale between its marks?"""
    tokens: int
    """Of the whole stream."""
    file: Path
    head: np.ndarray | None = None
    """Per part: how many of its first tokens delimit (`training.delimiters.mark`)."""
    tail: np.ndarray | None = None
    """Of its last ones, the boundary among them."""

    def real_before(self, places: np.ndarray) -> np.ndarray:
        """Real tokens of the stream before each place."""
        lengths = np.diff(self.starts, append=self.tokens)
        real = np.concatenate([[0], np.cumsum(lengths * self.real)])
        return np.interp(places, [*self.starts, self.tokens], real).round().astype(np.int64)

    def document_ids(self, parts: np.ndarray) -> list[str]:
        """The source documents of these parts, each once, in order."""
        column = pq.read_table(self.file, columns=["document_id"])["document_id"]
        return list(dict.fromkeys(column.take(parts).to_pylist()))


def load(file: Path) -> Parts:
    table = pq.read_table(file, columns=["start", "tokens", "position", "kind", "ends_row"])
    ends = table["ends_row"].to_numpy().astype(np.int64)
    real, rationale = (
        pc.is_in(table["kind"], value_set=pc.cast(list(kinds), table["kind"].type)).to_numpy()
        for kinds in (REAL, RATIONALE)
    )
    return Parts(
        table["start"].to_numpy(),
        np.cumsum(ends) - ends,
        table["position"].to_numpy(),
        real,
        ends.astype(bool),
        rationale,
        pc.sum(table["tokens"]).as_py(),
        file,
    )


def real_targets(sequences: Sequences, parts: Sequence[Parts], step: int) -> np.ndarray:
    """(batch, context): is the target from real text? A megadoc's real copy counts as real, padding does not."""
    return _look_up(sequences, parts, step, "real")[:, 1:].astype(bool) & sequences.targets(step)


def text_targets(sequences: Sequences, parts: Sequence[Parts], step: int) -> np.ndarray:
    """(batch, context): is the target text, that is neither boundary nor mark nor padding? ``parts`` are marked."""
    source, positions = sequences.positions(step)
    found = np.empty(positions.shape, bool)
    for number, stream in enumerate(parts):
        mine = source == number
        places = positions[mine]
        owner = np.searchsorted(stream.starts, places, side="right") - 1
        left = np.append(stream.starts[1:], stream.tokens)[owner] - places
        found[mine] = (places - stream.starts[owner] >= stream.head[owner]) & (left > stream.tail[owner])
    return found[:, 1:] & sequences.targets(step)


def segments(sequences: Sequences, parts: Sequence[Parts], step: int, unit: str) -> np.ndarray:
    """(batch, context): number of the document (``unit`` 'row') or megadoc of each input within its window.

    An input belongs where the token it predicts does: the boundary token before a document opens it, as it does
    when a held-out document is scored. A stream that starts over starts a new document; padding belongs to its
    window's last one.
    """
    owner = _look_up(sequences, parts, step, unit)
    _, positions = sequences.positions(step)
    new = (np.diff(owner, axis=1) != 0) | (np.diff(positions, axis=1) < 0)
    new[:, 0] = False
    return np.cumsum(new, axis=1)


def of_batch(sequences: Sequences, parts: Sequence[Parts], step: int) -> list[str]:
    """Ids of the documents that the step's windows hold, in the order of the batch."""
    source, positions = sequences.positions(step)
    found = []
    for stream, row in zip(source, positions, strict=True):
        numbers = np.searchsorted(parts[stream].starts, row, side="right") - 1
        found += parts[stream].document_ids(numbers[np.diff(numbers, prepend=-1) != 0])
    return list(dict.fromkeys(found))


def _look_up(sequences: Sequences, parts: Sequence[Parts], step: int, column: str) -> np.ndarray:
    source, positions = sequences.positions(step)
    found = np.empty(positions.shape, dtype=np.int64)
    for number, stream in enumerate(parts):
        mine = source == number
        values = getattr(stream, column)
        found[mine] = values[np.searchsorted(stream.starts, positions[mine], side="right") - 1]
    return found
