"""Megadocs kept whole in their windows, from the plan in dbt to the trained model."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from palimpsest.packing import pack
from tests.palimpsest.conftest import publish_documents, write_study
from tests.palimpsest.test_mixes import build
from training import documents, points, pretrain
from training.pack import tokenize
from training.run import open_feed

PACKED = ("pad", "best_fit")


@pytest.fixture
def packed(lake, tmp_path):
    """A study with one layout in all packings: its tokens, mixes and runs."""
    mixes = {"real": {"layout": "real", "epochs": 4}} | {
        name: {"layout": "stitched", "f": 0.5, "epochs": 2, "training": {"packing": name, "context": 128}}
        for name in ("cut", *PACKED)
    }
    study = write_study(tmp_path, mixes=mixes, gates={"max_synthetic_share": 1.0})
    parts, built = build(study, lake, publish_documents(lake))
    tokens = tokenize(study, lake, split=parts, mixes=built)
    runs = {run["recipe"]: run for run in pretrain.plan_runs(study, built)}
    return study, tokens, built, runs


def test_plan_feed_and_evaluation_agree_on_what_is_seen(packed, lake):
    study, tokens, mixes, runs = packed
    rows = points.recipes(mixes)
    for name in PACKED:
        for row in rows[name]:
            sizes = pq.read_table(tokens.file(f"{row['layout']}.index.parquet"))["tokens"].to_numpy()
            used = sizes[np.cumsum(sizes) <= row["stream_tokens"]]
            assert row["windows"] == len(pack(used, 128, name)) > row["stream_tokens"] // 128
    assert rows["cut"][0]["windows"] <= rows["best_fit"][0]["windows"] <= rows["pad"][0]["windows"]

    published = pretrain.train(study, lake, tokens=tokens, mixes=mixes, run=runs["best_fit"])
    found = json.loads(published.file("evaluation.json").read_text())
    assert np.isfinite(found["losses"]["iid"])
    assert found["tokens"]["padding"] > 0
    assert sum(found["tokens"][kind] for kind in ("real", "synthetic", "padding")) == found["tokens"]["total"]
    seen = points.spent(points.applied(study, runs["best_fit"]), runs["best_fit"], "real_tokens")
    assert found["tokens"]["real"] == pytest.approx(seen, rel=0.1)


@pytest.mark.parametrize("name", PACKED)
def test_a_window_that_fits_holds_whole_megadocs_and_each_sees_itself_alone_where_asked(packed, name):
    study, tokens, _, runs = packed
    study = points.applied(study, runs[name])
    feed = open_feed(study, tokens, runs[name])
    sequences, parts = feed.sequences, feed.parts
    boundary, whole = tokens.extra["boundary"], 0
    for step in range(len(sequences)):
        source, positions = sequences.positions(step)
        learned = sequences.targets(step)
        segments = documents.segments(sequences, parts, step, "megadoc")
        for row, (stream, places) in enumerate(zip(source, positions, strict=True)):
            filled = int(learned[row].sum())
            starts = 1 + np.flatnonzero(np.diff(places[1 : filled + 1]) != 1)
            assert len(np.unique(segments[row, :filled])) == len(starts) + 1
            assert (sequences.streams[stream][places[starts]] == boundary).all()
            whole += len(starts)
    assert (whole > 0) == (name == "best_fit")
