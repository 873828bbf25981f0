from __future__ import annotations

import math

import numpy as np
import pytest

from palimpsest.lake import LakeError
from palimpsest.packing import pack
from training import data

REAL, SYNTHETIC = np.arange(1003), np.arange(5000, 8210)


def mixed(**change):
    settings = {"f": 0.75, "steps": 67, "batch": 6, "block": 32, "context": 16, "seed": 3} | change
    streams = {"real": REAL, "simple": SYNTHETIC} if settings["f"] else {"real": REAL}
    return data.mix(streams, **settings)


def test_one_pass_covers_every_token_once_as_input_and_once_as_target():
    context = 16
    count = data.windows(len(REAL), context)
    sequences = mixed(f=0.0, steps=count, batch=1)
    rows = np.concatenate([sequences.at(step) for step in range(count)])
    extra = count * context - len(REAL)
    for found in (rows[:, :-1], rows[:, 1:]):
        times = np.bincount(found.ravel(), minlength=len(REAL))
        assert times.min() == 1
        assert times.sum() == len(REAL) + extra


def test_targets_are_inputs_shifted_by_one_and_the_last_window_wraps():
    sequences = mixed(f=0.0, steps=63, batch=1)
    rows = np.concatenate([sequences.at(step) for step in range(63)])
    assert (rows[:, 1:] == (rows[:, :-1] + 1) % len(REAL)).all()
    assert any((row[:-1] == 0).any() and row[0] == 992 for row in rows)


def test_a_stream_shorter_than_the_context_is_repeated_not_padded():
    sequences = data.mix({"real": np.array([7, 8, 9])}, f=0.0, steps=1, batch=1, block=1, context=6, seed=0)
    assert sequences.at(0).tolist() == [[7, 8, 9, 7, 8, 9, 7]]


def test_every_pass_repeats_the_same_permutation():
    windows = mixed(f=0.0, steps=63 * 3, batch=1).window.reshape(3, 63)
    assert sorted(windows[0]) == list(range(63))
    assert (windows == windows[0]).all()
    assert (windows[0] != np.arange(63)).any()


@pytest.mark.parametrize("f", [0.0, 0.29, 0.5, 0.75, 0.9])
@pytest.mark.parametrize(("steps", "batch", "block"), [(67, 6, 32), (64, 8, 32), (3, 4, 50), (10, 5, 7)])
def test_the_synthetic_share_is_exact_in_every_block(f, steps, batch, block):
    synthetic = data.placement(steps * batch, block, f, seed=1)
    for start in range(0, len(synthetic), block):
        found = synthetic[start : start + block]
        assert found.sum() == data.share(f, len(found))
    real, other = data.sequences_per_stream(steps, batch, block, f)
    assert (real, other) == ((synthetic == 0).sum(), synthetic.sum())


@pytest.mark.parametrize(("f", "block"), [(0.75, 64), (0.9, 7), (1.0, 10), (0.29, 50)])
def test_several_synthetic_streams_share_out_the_synthetic_part_of_every_block(f, block):
    ends = (0.2, 0.7, 1.0)
    streams = data.placement(1000, block, f, seed=1, ends=ends)
    assert ((streams > 0) == (data.placement(1000, block, f, seed=1) > 0)).all()  # real windows stay where they are
    for start in range(0, 1000, block):
        found = np.bincount(streams[start : start + block], minlength=4)
        assert found[1:].sum() == data.share(f, found.sum())
        assert np.abs(found[1:] - f * found.sum() * np.diff([0, *ends])).max() <= 1
    assert data.sequences_per_stream(100, 10, block, f, ends) == tuple(np.bincount(streams, minlength=4))


def test_a_half_rounds_up_even_where_doubles_fall_short():
    assert [data.share(0.5, 1), data.share(0.9, 5), data.share(0.29, 50), data.share(0.25, 1)] == [1, 5, 15, 0]


def test_real_windows_come_in_the_same_order_in_every_mix():
    alone, half = mixed(f=0.0), mixed(f=0.5)
    ours = half.window[half.stream == 0]
    assert (alone.window[: len(ours)] == ours).all()
    assert (alone.window != mixed(f=0.0, seed=4).window).any()


def test_any_step_can_be_asked_for_and_synthetic_rows_come_from_the_synthetic_stream():
    sequences = mixed()
    late = sequences.at(60)
    assert (late == mixed().at(60)).all()
    synthetic = sequences.stream[360:366] == 1
    assert ((late >= 5000).all(1) == synthetic).all()


def test_a_token_file_shorter_than_its_mix_is_refused(tmp_path):
    np.arange(10, dtype="<u2").tofile(tmp_path / "real.bin")
    assert data.open_stream(tmp_path / "real.bin", "<u2", 4).tolist() == [0, 1, 2, 3]
    with pytest.raises(LakeError, match=r"real\.bin: a mix asks for 11 tokens, the file holds 10"):
        data.open_stream(tmp_path / "real.bin", "<u2", 11)


def test_a_fraction_without_its_stream_is_refused():
    with pytest.raises(LakeError, match="takes 2 stream"):
        data.mix({"real": REAL}, f=0.5, steps=1, batch=1, block=1, context=4, seed=0)


def counted(sequences, number):
    """Times each place of a stream is a target, one batch after the other; tokens of these streams are unique."""
    rows = np.concatenate([sequences.at(step)[:, 1:] for step in range(len(sequences))])
    first = sequences.streams[number][0]
    mine = rows[(rows >= first) & (rows <= sequences.streams[number][-1])] - first
    return np.bincount(mine, minlength=len(sequences.streams[number]))


@pytest.mark.parametrize(
    ("f", "steps", "batch", "block", "context"), [(0.75, 67, 6, 32, 16), (0.29, 211, 4, 50, 64), (0.5, 9, 2, 4, 2000)]
)
def test_every_token_is_seen_exactly_as_often_as_the_windows_dealt_say(f, steps, batch, block, context):
    sequences = mixed(f=f, steps=steps, batch=batch, block=block, context=context)
    for number in (0, 1):
        starts, times = data.exposures(sequences, number)
        length = len(sequences.streams[number])
        expected = np.repeat(times, np.diff(starts, append=length))
        found = counted(sequences, number)
        assert (found == expected).all()
        passes = data.sequences_per_stream(steps, batch, block, f)[number] / data.windows(length, context)
        if context <= length:
            wrapped = 2 * math.ceil(passes)  # the last window runs on into the first tokens
            assert math.floor(passes) <= found.min() and found.max() <= wrapped
        assert found.sum() == data.sequences_per_stream(steps, batch, block, f)[number] * context


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_divide_a_batch_without_gap_or_overlap(world):
    sequences = mixed()
    parts = [sequences.at(11, data.divide(6, rank, world)) for rank in range(world)]
    assert (np.concatenate(parts) == sequences.at(11)).all()
    assert {len(part) for part in parts} <= {6 // world, -(-6 // world)}


LENGTHS = np.array([5, 40, 16, 3, 17, 9, 2, 31, 8, 12])
STREAM = np.arange(LENGTHS.sum())


def packed(packing, **change):
    settings = {"f": 0.0, "steps": 9, "batch": 5, "block": 8, "context": 16, "seed": 3} | change
    return data.mix({"real": STREAM}, packed=(pack(LENGTHS, 16, packing),), **settings)


@pytest.mark.parametrize("packing", ["pad", "best_fit"])
def test_a_packed_window_is_read_from_the_token_before_it_and_padding_is_no_target(packing):
    sequences = packed(packing)
    starts = set((np.cumsum(LENGTHS) - LENGTHS).tolist())
    for step in range(len(sequences)):
        rows, learned = sequences.at(step), sequences.targets(step)
        assert (rows[:, 0] == (rows[:, 1] - 1) % len(STREAM)).all()
        for row, mask in zip(rows, learned, strict=True):
            filled = int(mask.sum())
            assert mask[:filled].all()
            jumps = [at for at in range(1, filled) if row[at + 1] != row[at] + 1]
            assert all(row[at] + 1 in starts | {len(STREAM)} for at in jumps)  # only where a megadoc had ended


@pytest.mark.parametrize("packing", ["pad", "best_fit"])
def test_packed_tokens_are_seen_exactly_as_often_as_said(packing):
    sequences = packed(packing)
    found = np.zeros(len(STREAM), int)
    for step in range(len(sequences)):
        np.add.at(found, sequences.at(step)[:, 1:][sequences.targets(step)], 1)
    starts, times = data.exposures(sequences, 0)
    assert (np.repeat(times, np.diff(starts, append=len(STREAM))) == found).all()
    passes = 45 / len(sequences.packed[0])
    assert {int(np.floor(passes)), int(np.ceil(passes))} == set(found.tolist())


def test_reshuffled_passes_have_orders_of_their_own_and_the_first_is_the_usual_one():
    again, usual = mixed(f=0.0, steps=63 * 3, batch=1, reshuffle=True), mixed(f=0.0, steps=63 * 3, batch=1)
    turns = again.window.reshape(3, 63)
    assert (turns[0] == usual.window[:63]).all()
    assert (turns[1] != turns[0]).any() and (turns[2] != turns[1]).any()
    assert all(sorted(turn) == list(range(63)) for turn in turns)
