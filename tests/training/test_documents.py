from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training import data, documents, pretrain
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
