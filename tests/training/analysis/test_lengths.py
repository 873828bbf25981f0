from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training.analysis.lengths import LENGTHS, measure


def parts(*megadocs):
    """A stream of megadocs, each a list of (source, tokens), every text ended by its boundary."""
    rows = [
        {"position": position, "part": part, "document_id": source, "tokens": tokens, "ends_row": True}
        for position, megadoc in enumerate(megadocs)
        for part, (source, tokens) in enumerate(megadoc)
    ]
    return pa.Table.from_pylist(rows)


def test_lengths_are_those_of_texts_and_of_megadocs():
    stream = parts([("a", 10), ("a", 30)], [("b", 20)], [("c", 40), ("c", 100)])
    found = measure(stream, 200, 50, "cut")
    assert set(found) == {*LENGTHS, "versions_per_window"}
    assert [found[name] for name in LENGTHS] == [5, 40, 30, pytest.approx(76), 100, 0.2] + [
        3, pytest.approx(200 / 3), 40, pytest.approx(120), 140, pytest.approx(1 / 3)
    ]  # fmt: skip


def test_of_a_stream_used_in_part_only_that_part_counts():
    stream = parts([("a", 10)], [("b", 20)], [("c", 40)])
    assert measure(stream, 30, 50, "cut")["documents_max"] == 20
    assert measure(stream, 70, 50, "cut")["documents"] == 3


def test_the_parts_of_a_stretched_megadoc_are_one_document():
    stream = parts([("a", 10), ("a", 30), ("a", 5)], [("b", 20)])
    ends = pa.array([False, False, True, True])
    found = measure(stream.set_column(stream.column_names.index("ends_row"), "ends_row", ends), 65, 100, "cut")
    assert (found["documents"], found["documents_max"], found["versions_per_window"]) == (2, 45, 1)


@pytest.mark.parametrize("packing", ["cut", "pad", "best_fit"])
def test_versions_are_counted_where_a_window_shows_them_together(packing):
    """Windows of 40: four versions of 20 stand two and two where they are adjacent, each alone where they are not."""
    stitched = parts(*([(source, 20)] * 4 for source in "abcd"))
    assert measure(stitched, 320, 40, packing)["versions_per_window"] == 2
    assert measure(stitched, 320, 80, packing)["versions_per_window"] == 4
    assert measure(stitched, 320, 20, packing)["versions_per_window"] == 1
    if packing == "cut":
        apart = parts(*([(source, 20)] for _ in range(4) for source in "abcd"))
        assert measure(apart, 320, 40, packing)["versions_per_window"] == 1


def test_a_version_counts_in_every_window_that_shows_a_part_of_it_weighted_by_tokens():
    """Windows [0, 30), [30, 60): the first shows a and 10 tokens of b's first text, the second both texts of b."""
    stream = parts([("a", 20)], [("b", 20), ("b", 20)])
    assert measure(stream, 60, 30, "cut")["versions_per_window"] == pytest.approx((30 * 1 + 30 * 2) / 60)


@pytest.mark.parametrize("packing", ["cut", "best_fit"])
def test_versions_agree_with_counting_token_by_token(packing):
    rng = np.random.default_rng(0)
    megadocs = [[(str(rng.integers(5)), int(rng.integers(1, 30)))] * int(rng.integers(1, 4)) for _ in range(40)]
    stream, context = parts(*megadocs), 32
    texts = [text for megadoc in megadocs for text in megadoc]
    if packing == "cut":
        places = np.arange(sum(tokens for _, tokens in texts)) // context
    else:
        from palimpsest.packing import pack

        packed = pack(np.array([sum(tokens for _, tokens in megadoc) for megadoc in megadocs]), context, packing)
        places = np.empty(sum(tokens for _, tokens in texts), int)
        for window in range(len(packed)):
            for start, length in packed.pieces(window):
                places[start : start + length] = window
    number = np.repeat(np.arange(len(texts)), [tokens for _, tokens in texts])
    source = np.array([name for name, _ in texts])[number]
    shown = [len({n for n in number[(places == p) & (source == s)]}) for p, s in zip(places, source, strict=True)]
    found = measure(stream, len(places), context, packing)["versions_per_window"]
    assert found == pytest.approx(np.mean(shown))
