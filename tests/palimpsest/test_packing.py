from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.packing import pack

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@pytest.mark.parametrize("packing", ["pad", "best_fit"])
@given(tokens=LENGTHS)
def test_every_token_is_in_one_window_and_no_window_overflows(packing, tokens):
    windows = pack(np.array(tokens), 16, packing)
    held = [place for w in range(len(windows)) for start, n in windows.pieces(w) for place in range(start, start + n)]
    assert sorted(held) == list(range(sum(tokens)))
    assert all(0 < sum(n for _, n in windows.pieces(w)) <= 16 for w in range(len(windows)))


@given(tokens=LENGTHS)
def test_megadocs_that_fit_are_whole_and_longer_ones_are_cut_into_whole_windows_and_a_rest(tokens):
    starts = np.cumsum(tokens) - tokens
    expected = [
        (start + at, min(16, length - at))
        for start, length in zip(starts.tolist(), tokens, strict=True)
        for at in range(0, length, 16)
    ]
    for packing in ("pad", "best_fit"):
        windows = pack(np.array(tokens), 16, packing)
        assert sorted(piece for w in range(len(windows)) for piece in windows.pieces(w)) == expected
        if packing == "pad":
            assert all(len(windows.pieces(w)) == 1 for w in range(len(windows)))


def test_best_fit_takes_the_window_it_leaves_least_room_in():
    windows = pack(np.array([9, 12, 4, 7, 3]), 16, "best_fit")
    assert [sorted(n for _, n in windows.pieces(w)) for w in range(len(windows))] == [[4, 12], [7, 9], [3]]


@given(sizes=st.lists(st.integers(1, 16), min_size=1, max_size=7))
def test_best_fit_needs_at_most_a_window_more_than_the_best_packing_of_so_few(sizes):
    """11/9 of the optimum and a window at most (Johnson 1973); of seven pieces no more than one window is lost."""
    needed = len(pack(np.array(sizes), 16, "best_fit"))
    assert fewest(sizes) <= needed <= fewest(sizes) + 1


def fewest(sizes, rooms=()):
    """The least number of windows, by trying every place for every piece."""
    if not sizes:
        return len(rooms)
    first, *others = sizes
    tried = [
        fewest(others, (*rooms[:place], room - first, *rooms[place + 1 :]))
        for place, room in enumerate(rooms)
        if room >= first
    ]
    return min([*tried, fewest(others, (*rooms, 16 - first))])
