"""Megadocs laid into training windows: cut from one long stream, or kept whole as far as they fit.

* ``cut``: the stream in order, cut every ``context`` tokens (megadocs paper, section 4). Nothing is left over; a
  megadoc begins and ends anywhere in a window.
* ``pad``: every megadoc begins a window of its own, a longer one goes on in further windows; the rest stays empty.
* ``best_fit`` (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", section 3.2): megadocs longer than a
  window are cut into whole windows and a rest; rests and shorter megadocs, the longest first, each go into the window
  that they leave the least room in.

What stays empty is padding: it is computed, and no target is learned there.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Literal

import numpy as np

Packing = Literal["cut", "pad", "best_fit"]


@dataclass(frozen=True)
class Windows:
    """Which pieces of a stream each window holds, one after the other; the places are those of targets."""

    first: np.ndarray
    """(windows + 1,): the pieces of window w are ``first[w]`` to ``first[w + 1]``."""
    start: np.ndarray
    """Per piece: its first place in the stream."""
    length: np.ndarray
    """Per piece, in tokens; the pieces of a window have ``context`` together at most."""

    def __len__(self) -> int:
        return len(self.first) - 1

    def pieces(self, window: int) -> list[tuple[int, int]]:
        """(start, length) of a window's pieces, in order."""
        mine = slice(self.first[window], self.first[window + 1])
        return list(zip(self.start[mine].tolist(), self.length[mine].tolist(), strict=True))


def pack(tokens: np.ndarray, context: int, packing: Literal["pad", "best_fit"]) -> Windows:
    """The windows of a stream whose megadocs have so many ``tokens`` each, in the stream's order."""
    tokens = np.asarray(tokens, np.int64)
    count = -(-tokens // context)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    start = np.repeat(np.cumsum(tokens) - tokens, count) + within * context
    length = np.minimum(context, np.repeat(tokens, count) - within * context)
    if packing == "pad":
        return Windows(np.arange(len(start) + 1), start, length)
    order = np.argsort(-length, kind="stable")
    window = np.array(_best_fit(length[order].tolist(), context), np.int64)
    order = order[np.argsort(window, kind="stable")]
    counts = np.bincount(window)
    return Windows(np.concatenate([[0], np.cumsum(counts)]), start[order], length[order])


def _best_fit(lengths: list[int], context: int) -> list[int]:
    """The window of each piece; ``lengths`` fall."""
    open_windows: dict[int, list[int]] = {}  # by the room they have
    rooms: list[int] = []  # ascending
    found, windows = [], 0
    for length in lengths:
        at = bisect_left(rooms, length)
        if at == len(rooms):
            window, room = windows, context
            windows += 1
        else:
            room = rooms[at]
            window = open_windows[room].pop()
            if not open_windows[room]:
                del rooms[at]
        left = room - length
        if left:
            if not open_windows.get(left):
                insort(rooms, left)
            open_windows.setdefault(left, []).append(window)
        found.append(window)
    return found
