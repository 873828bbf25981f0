"""Pointwise Value Matching: two models trained for real, and what their losses say of texts of known quality."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.lake import Lake, LakeError
from tests.training.conftest import study_content
from tests.training.selection.conftest import publish
from training.selection.stage import select

MODEL = {"layers": 1, "width": 32, "mlp": 64, "heads": 2}
PVM = {"model": MODEL, "steps": 80, "context": 64, "batch": 8, "optimizer": {"lr": 0.01}}


def study_of(**changes) -> Study:
    content = study_content(seeds=[0], precision="fp32")
    engine = {"kind": "recorded", "file": "none"}
    content["strategies"] = {"rephrase": {"kind": "rephrase", "generations": 2, "engine": engine}}
    kept = {"kind": "simple", "strategy": "rephrase", "select": {"by": "pvm", "share": 0.4}}
    content["layouts"] = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}, "kept": kept}
    return Study.model_validate(content | {"selection": {"pvm": PVM | changes}})


@pytest.fixture(scope="module")
def scored(tmp_path_factory, planted):
    lake = Lake(tmp_path_factory.mktemp("pvm"))
    tokenizer = tok.train([text for _, text in planted[0]], 512)
    given = publish(lake, planted, tokenizer=tokenizer)
    return select(study_of(), lake, **given)


def test_what_a_model_of_the_target_would_rather_have_is_the_good_text(scored, planted):
    kinds = {f"{document}/0": kind for document, kind, _ in planted[1]}
    rows = [row for row in pq.read_table(scored.file("weights.parquet")).to_pylist() if row["origin"] == "synthetic"]
    for bad, least in (("boilerplate", 0.9), ("shuffled", 0.6)):
        own = [row for row in rows if kinds[row["id"]] in ("good", bad)]
        good = [kinds[row["id"]] == "good" for row in own]
        assert roc_auc_score(good, [row["score"] for row in own]) >= least, bad


def test_texts_over_the_targets_documents_are_scored_without_having_been_read(scored):
    rows = pq.read_table(scored.file("weights.parquet")).to_pylist()
    features = [json.loads(row["features"]) for row in rows]
    unread = [row for row, own in zip(rows, features, strict=True) if own["value"] is None]
    assert 0.1 < len(unread) / len(rows) < 0.35
    assert {row["document_id"] for row in unread if row["origin"] == "real"} == {
        row["document_id"] for row in unread if row["origin"] == "synthetic"
    }
    measured = [own for own in features if own["value"] is not None]
    assert all(own["value"] == pytest.approx(own["loss_pool"] - own["loss_target"]) for own in measured)
    assert np.isfinite([row["score"] for row in rows]).all()


def test_two_trainings_are_what_it_costs(scored):
    cost = scored.extra["methods"]["pvm"]
    tokens = PVM["steps"] * PVM["batch"] * PVM["context"]
    weights = 4 * 32 * 32 + 3 * 32 * 64 + 32 * 512
    assert cost["flops"] > 2 * 6 * weights * tokens
    assert cost["flops"] < 3 * 2 * 6 * weights * tokens


def test_what_is_missing_is_said(tmp_path, planted):
    with pytest.raises(ValueError, match="selection.pvm: selecting by 'pvm' trains two models"):
        Study.model_validate(study_of().model_dump(exclude={"path"}) | {"selection": {}})
    lake, few = Lake(tmp_path / "lake"), [side[:20] for side in planted]
    given = publish(lake, few, tokenizer=tok.train([text for _, text in planted[0]], 512))
    with pytest.raises(LakeError, match="selection by pvm: .* are too few, 10 each are needed"):
        select(study_of(), lake, **given)
