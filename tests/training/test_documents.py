from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from palimpsest import tokenizer as tok
from palimpsest.lake import LakeError
from tests.training.conftest import make_study
from training import data, delimiters, documents, pretrain
from training.run import open_feed

# boundary tokens are 0; megadoc 0 is two documents, megadoc 1 one document of three parts
STREAM = np.array([11, 12, 0, 21, 0, 31, 32, 33, 41, 34, 0])
PARTS = [
    {"start": 0, "position": 0, "part": 0, "kind": "rephrase", "document_id": "a", "tokens": 3, "ends_row": True},
    {"start": 3, "position": 0, "part": 1, "kind": "real", "document_id": "a", "tokens": 2, "ends_row": True},
    {"start": 5, "position": 1, "part": 0, "kind": "slice", "document_id": "b", "tokens": 3, "ends_row": False},
    {"start": 8, "position": 1, "part": 1, "kind": "rationale", "document_id": "b", "tokens": 1, "ends_row": False},
    {"start": 9, "position": 1, "part": 2, "kind": "slice", "document_id": "b", "tokens": 2, "ends_row": True},
]


@pytest.fixture
def parts(tmp_path):
    pq.write_table(pa.Table.from_pylist(PARTS), tmp_path / "real.parts.parquet")
    return [documents.load(tmp_path / "real.parts.parquet")]


def window(context):
    """One window from the stream's start, round it where it is longer."""
    stream = np.zeros(1, np.uint8)
    return data.Sequences((STREAM,), context, 1, stream, np.zeros(1, np.int64))


def test_an_input_is_in_the_document_of_the_token_it_predicts(parts):
    """The boundary token before a document opens it, as when a held-out document is scored."""
    found = documents.segments(window(13), parts, 0, "row")
    #                        11 12  0 21  0 31 32 33 41 34  0 11 12
    assert found.tolist() == [[0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3]]


def test_within_megadocs_only_the_boundary_between_megadocs_counts(parts):
    found = documents.segments(window(13), parts, 0, "megadoc")
    assert found.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2]]


def test_a_stream_of_one_document_starts_over_as_a_new_one(tmp_path):
    pq.write_table(pa.Table.from_pylist([PARTS[0]]), tmp_path / "real.parts.parquet")
    one = [documents.load(tmp_path / "real.parts.parquet")]
    sequences = data.Sequences((STREAM[:3],), 7, 1, np.zeros(1, np.uint8), np.zeros(1, np.int64))
    assert documents.segments(sequences, one, 0, "row").tolist() == [[0, 0, 1, 1, 1, 2, 2]]


def test_real_targets_are_real_pages_and_slices_with_their_boundaries(parts):
    found = documents.real_targets(window(10), parts, 0)
    #                                 12     0     21    0    31    32    33    41    34    0
    assert found.tolist() == [[False, False, True, True, True, True, True, False, True, True]]


MEGADOC = [
    ("slice", "The tide rises.", False),
    ("rationale", "<think>(The moon pulls.)</think>", False),
    ("slice", "Twice a day <think> is no mark here.", True),
    ("rationale", "<think>x</think>", True),
]


def written(folder, tokenizer):
    """A stream of the parts above, and its marked parts."""
    rows, stream = [], []
    for place, (kind, text, ends) in enumerate(MEGADOC):
        ids = tokenizer.encode(text, add_special_tokens=False).ids + [0] * ends
        row = {"start": len(stream), "position": 0, "part": place, "kind": kind, "document_id": "a"}
        rows.append(row | {"tokens": len(ids), "ends_row": ends})
        stream += ids
    pq.write_table(pa.Table.from_pylist(rows), folder / "stretched.parts.parquet")
    found = np.array(stream, np.uint16)
    return found, delimiters.mark(documents.load(folder / "stretched.parts.parquet"), found, tokenizer)


def test_text_alone_is_learned_without_marks_and_boundaries(tmp_path):
    """Of a tokenizer that makes one token of '.)</' a token that holds any of a mark is none of the text."""
    tokenizer = tok.train(["the tide rises (twice a day). so.)</i>", *[".)</ .)</ >x <"] * 40], 600)
    stream, parts = written(tmp_path, tokenizer)
    sequences = data.Sequences((stream,), len(stream), 1, np.zeros(1, np.uint8), np.zeros(1, np.int64))
    learned = documents.text_targets(sequences, [parts], 0)[0]
    targets = np.append(stream[1:], stream[:1])
    told = [tokenizer.decode([number], skip_special_tokens=False) for number in targets]
    text = "".join(piece for piece, is_text in zip(told, learned, strict=True) if is_text)
    assert ".)</" in told and tok.BOUNDARY in told
    first = told[-1]  # the stream goes round
    assert first + text == "The tide rises.(The moon pullsTwice a day <think> is no mark here.x" + first


def test_marks_that_the_tokens_do_not_read_as_are_refused(tmp_path):
    tokenizer = tok.train(["the tide"], 512)
    stream, parts = written(tmp_path, tokenizer)
    with pytest.raises(LakeError, match=r"stretched.parts.parquet: tokens .* not <think>; .*loss_on cannot be 'text'"):
        delimiters.mark(parts, np.roll(stream, 3), tokenizer)


def test_a_run_on_text_alone_learns_all_but_its_boundaries(small):
    run = next(run for run in pretrain.plan_runs(small.study, small.mixes) if run["run"] == "simple-s0")
    feed = open_feed(make_study(loss_on="text"), small.tokens, run)
    batch = feed.at(0, torch.device("cpu"))
    boundary = small.tokens.extra["boundary"]
    assert torch.equal(batch.counted, batch.tokens[:, 1:] != boundary) and batch.count == int(batch.counted.sum())
    assert batch.count < batch.counted.numel()


def test_a_batch_names_its_documents_once_in_order(parts):
    assert documents.of_batch(window(4), parts, 0) == ["a"]
    assert documents.of_batch(window(13), parts, 0) == ["a", "b"]


def test_real_tokens_are_counted_up_to_any_place(parts):
    places = np.arange(len(STREAM) + 1)
    real = [0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1]
    assert parts[0].real_before(places).tolist() == [0, *np.cumsum(real).tolist()]


def test_a_run_says_exactly_how_often_its_tokens_were_seen(small, lake):
    """Counted once more from every batch of the run against what its evaluation, in the manifest's digest, says."""
    run = next(run for run in pretrain.plan_runs(small.study, small.mixes) if run["run"] == "simple-s0")
    published = pretrain.train(small.study, lake, tokens=small.tokens, mixes=small.mixes, run=run)
    said = json.loads(published.file("evaluation.json").read_text())["exposures"]
    feed = open_feed(small.study, small.tokens, run)
    for number, stream in enumerate(run["streams"]):
        seen = np.zeros(stream["tokens"], np.int64)
        real = 0
        for step in range(len(feed)):
            source, positions = feed.sequences.positions(step)
            np.add.at(seen, positions[source == number][:, 1:].ravel(), 1)
            real += int(documents.real_targets(feed.sequences, feed.parts, step)[source == number].sum())
        times, tokens = np.unique(seen, return_counts=True)
        assert said[stream["layout"]] == {
            "total": stream["sequences"] * small.study.training.context,
            "real": real,
            "tokens_by_times_seen": {
                str(time): count for time, count in zip(times.tolist(), tokens.tolist(), strict=True)
            },
        }
    assert said["real"]["real"] == said["real"]["total"]
    assert 0 < said["simple"]["real"] < said["simple"]["total"]
