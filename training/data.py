"""Which windows a run sees, in which order: memory-mapped streams, one permutation each, mixed in exact blocks.

The rules (megadocs paper, sections 3.2 and 4):

* A stream of N tokens is cut into W = ceil(N / context) windows. Window w covers tokens [w * context,
  (w + 1) * context) as inputs and the same range shifted by one as targets, both cyclic modulo N: the last window
  runs on into the stream's start. Nothing is cropped or padded.
* Where megadocs are kept whole (`palimpsest.packing`), a window's targets are its pieces one after the other, read from
  the token before the first of them on; between two stands the boundary that closed the former. What stays empty is
  no target.
* One permutation of the windows per (stream, seed), used again on every pass, or one per pass (``reshuffle``). It
  depends on nothing else, so seed s means the same order of the real windows in every mix.
* The run's sequences are dealt in blocks of B. A block holds exactly ``share(f, B)`` synthetic sequences, placed by
  the seed; the last, shorter block of r sequences holds ``share(f, r)``. Several synthetic streams share them out by
  weight: what all up to each one have is rounded in the same way (`dealt`). A stream starts over when it is exhausted.

Everything is addressed by the step index, so a run can start anywhere, and any number of processes can divide a step.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palimpsest.lake import LakeError
from palimpsest.packing import Windows

PLACEMENT, ORDER = 1, 2  # distinct random streams of one seed
ONE = (1.0,)  # synthetic stream


def windows(tokens: int, context: int) -> int:
    """Number of windows of a stream: ceil(tokens / context)."""
    return -(-tokens // context)


def share(f: float, sequences: int) -> int:
    """Synthetic sequences among so many: f * sequences rounded half up, as the dbt model ``mixes`` computes it.

    In SQL: ``floor(f * sequences + 0.5 + 1e-9)`` in doubles; 1e-9 keeps a half a half (0.29 * 50 is 14.4999...).
    """
    return math.floor(f * sequences + 0.5 + 1e-9)


def dealt(sequences: int, f: float, ends: Sequence[float] = ONE) -> np.ndarray:
    """(1 + streams,) of so many sequences the real ones, and those of each synthetic stream.

    ``ends`` is where each synthetic stream's part of f ends, the last at 1 (`palimpsest.config.Mix.streams`).
    """
    places = [0, *(share(f * end, sequences) for end in ends), sequences]
    return np.roll(np.diff(places), 1)


def sequences_per_stream(steps: int, batch: int, block: int, f: float, ends: Sequence[float] = ONE) -> tuple[int, ...]:
    """Sequences of a whole run: the real ones, then those of each synthetic stream.

    With T = steps * batch: floor(T / block) times what a block holds, and what the last T mod block do.
    """
    full, rest = divmod(steps * batch, block)
    return tuple((full * dealt(block, f, ends) + dealt(rest, f, ends)).tolist())


def placement(total: int, block: int, f: float, seed: int, ends: Sequence[float] = ONE) -> np.ndarray:
    """Per sequence of the run its stream: 0 is the real one. Exact inside every block."""
    random = np.random.default_rng([seed, PLACEMENT])
    full, rest = divmod(total, block)
    streams = np.arange(1 + len(ends), dtype=np.uint8)
    within, at_end = (np.roll(np.repeat(streams, counts := dealt(size, f, ends)), -counts[0]) for size in (block, rest))
    blocks = random.permuted(np.tile(within, (full, 1)), axis=1)
    return np.concatenate([blocks.reshape(-1), random.permutation(at_end)])


def order(name: str, count: int, seed: int, turn: int = 0) -> np.ndarray:
    """The permutation of a stream's windows for this seed, and for one pass (``turn``) where each has its own."""
    place = [seed, ORDER, zlib.crc32(name.encode()), *([turn] if turn else [])]
    return np.random.default_rng(place).permutation(count)


def open_stream(file: Path, dtype: str, tokens: int) -> np.ndarray:
    """The first ``tokens`` tokens of a token file, memory-mapped."""
    stored = file.stat().st_size // np.dtype(dtype).itemsize
    if not 0 < tokens <= stored:
        raise LakeError(f"{file}: a mix asks for {tokens} tokens, the file holds {stored}; tokenize again")
    return np.memmap(file, dtype=np.dtype(dtype).newbyteorder("<"), mode="r", shape=(stored,))[:tokens]


@dataclass(frozen=True)
class Sequences:
    """All sequences of one run, by step."""

    streams: tuple[np.ndarray, ...]
    context: int
    batch: int
    stream: np.ndarray
    """Per sequence: which stream."""
    window: np.ndarray
    """Per sequence: which window of it."""
    packed: tuple[Windows, ...] = ()
    """Per stream, where megadocs are kept whole."""

    def __len__(self) -> int:
        return len(self.stream) // self.batch

    def at(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """(batch, context + 1) token ids: inputs are ``[:, :-1]``, targets ``[:, 1:]``; of ``rows`` of the batch."""
        source, positions = self.positions(step, rows)
        tokens = np.empty(positions.shape, dtype=np.int64)
        for number, stream in enumerate(self.streams):
            mine = source == number
            tokens[mine] = stream[positions[mine]]
        return tokens

    def positions(self, step: int, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Per row of the batch its stream, and the (rows, context + 1) places of its tokens in that stream.

        Padding repeats the last place of its window.
        """
        batch = slice(step * self.batch, (step + 1) * self.batch)
        if self.packed:
            source = self.stream[batch][rows]
            windows = [self._pieces(*found) for found in zip(source, self.window[batch][rows], strict=True)]
            return source, np.array([self._places(s, pieces) for s, pieces in zip(source, windows, strict=True)])
        source, starts = self.stream[batch][rows], self.window[batch][rows, None] * self.context
        lengths = np.array([len(stream) for stream in self.streams])
        return source, (starts + np.arange(self.context + 1)) % lengths[source, None]

    def targets(self, step: int) -> np.ndarray:
        """(batch, context): is there a token to be learned? False in padding."""
        batch = slice(step * self.batch, (step + 1) * self.batch)
        if not self.packed:
            return np.ones((self.batch, self.context), bool)
        windows = [self._pieces(*found) for found in zip(self.stream[batch], self.window[batch], strict=True)]
        filled = np.array([sum(length for _, length in pieces) for pieces in windows])
        return np.arange(self.context) < filled[:, None]

    def _pieces(self, stream: int, window: int) -> list[tuple[int, int]]:
        return self.packed[stream].pieces(window)

    def _places(self, stream: int, pieces: list[tuple[int, int]]) -> np.ndarray:
        found = np.concatenate([np.arange(start, start + length) for start, length in pieces])
        before = (pieces[0][0] - 1) % len(self.streams[stream])
        return np.concatenate([[before], found, np.full(self.context - len(found), found[-1])])


def divide(batch: int, rank: int, world: int) -> slice:
    """The rows of a batch that one of ``world`` processes takes: contiguous, sizes differing by one at most."""
    return slice(batch * rank // world, batch * (rank + 1) // world)


def exposures(sequences: Sequences, number: int) -> tuple[np.ndarray, np.ndarray]:
    """How often the tokens of stream ``number`` are targets in the whole run, counted from the windows dealt.

    Runs of equal count: the place in the stream where each starts, and the count.
    """
    tokens, context = len(sequences.streams[number]), sequences.context
    if sequences.packed:
        return _packed_exposures(sequences, number)
    dealt = np.bincount(sequences.window[sequences.stream == number], minlength=windows(tokens, context))
    rounds, rest = divmod(context, tokens)  # a window longer than the stream goes round it
    start = (np.arange(len(dealt)) * context + 1) % tokens
    stop = start + rest
    edges = [
        (start, dealt),
        (np.minimum(stop, tokens), -dealt),
        (np.zeros_like(start), np.where(stop > tokens, dealt, 0)),
        (np.maximum(stop - tokens, 0), np.where(stop > tokens, -dealt, 0)),
    ]
    return _added([(np.zeros(1, np.int64), rounds * dealt.sum(keepdims=True)), *edges], tokens)


def _packed_exposures(sequences: Sequences, number: int) -> tuple[np.ndarray, np.ndarray]:
    windows = sequences.packed[number]
    dealt = np.bincount(sequences.window[sequences.stream == number], minlength=len(windows))
    times = np.repeat(dealt, np.diff(windows.first))
    edges = [(windows.start, times), (windows.start + windows.length, -times)]
    return _added(edges, len(sequences.streams[number]))


def _added(edges: Sequence[tuple[np.ndarray, np.ndarray]], tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The sum of all changes up to each place below ``tokens`` where something changes, and that place."""
    places, edge = np.unique(np.concatenate([[0], *(place for place, _ in edges)]), return_inverse=True)
    change = np.zeros(len(places), dtype=np.int64)
    np.add.at(change, edge[1:], np.concatenate([count for _, count in edges]))
    inside = places < tokens
    return places[inside], np.cumsum(change)[inside]


def mix(
    streams: Mapping[str, np.ndarray],
    *,
    f: float,
    steps: int,
    batch: int,
    block: int,
    context: int,
    seed: int,
    packed: tuple[Windows, ...] = (),
    reshuffle: bool = False,
    ends: Sequence[float] = ONE,
) -> Sequences:
    """The sequences of a run over {name: tokens}: the real stream first, then (if f > 0) one per end."""
    wanted = 1 + len(ends) if f > 0 else 1
    if len(streams) != wanted:
        raise LakeError(f"a mix with f = {f} takes {wanted} stream(s), got {', '.join(streams)}")
    stream = placement(steps * batch, block, f, seed, ends)
    window = np.empty(len(stream), dtype=np.int64)
    for number, (name, tokens) in enumerate(streams.items()):
        count = len(packed[number]) if packed else windows(len(tokens), context)
        mine = stream == number
        turns = -(-int(mine.sum()) // count)
        orders = [order(name, count, seed, turn if reshuffle else 0) for turn in range(turns)]
        window[mine] = np.concatenate([*orders, np.empty(0, np.int64)])[: mine.sum()]
    return Sequences(tuple(streams.values()), context, batch, stream, window, packed)
