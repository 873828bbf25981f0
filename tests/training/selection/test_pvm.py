"""Pointwise Value Matching: two models trained for real, and what their losses say of texts of known quality."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.lake import Lake, LakeError
from tests.training.conftest import study_content
from tests.training.selection.conftest import KINDS, publish
from training import short
from training.selection.stage import select
from training.step import Feed

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
    weight = {kind: np.mean([row["weight"] for row in rows if kinds[row["id"]] == kind]) for kind in KINDS}
    assert weight["good"] > 1 > max(weight["boilerplate"], weight["shuffled"])


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
    assert cost["seconds"] > 0
    tokens = PVM["steps"] * PVM["batch"] * PVM["context"]
    weights = 4 * 32 * 32 + 3 * 32 * 64 + 32 * 512
    assert cost["flops"] > 2 * 6 * weights * tokens
    assert cost["flops"] < 3 * 2 * 6 * weights * tokens


def test_each_model_prefers_what_it_has_learned_and_the_regression_follows_the_values(scored):
    told = scored.extra["methods"]["pvm"]["figures"]
    on = {name: {side: told[f"loss of the model of the {name} on the {side}"] for side in ("pool", "target")}
          for name in ("pool", "target")}  # fmt: skip
    assert on["target"]["target"] < on["pool"]["target"], "the model of the target has learned it"
    assert on["pool"]["pool"] < on["target"]["pool"]
    assert 1 < told["passes over the target"] < 20
    assert 0.3 < told["rank correlation of score and value"] < 1


def test_a_text_costs_what_its_model_makes_of_it_alone_however_many_there_are(monkeypatch):
    study, random = study_of(context=16, steps=2), np.random.default_rng(0)
    trainer = short.Trainer(study.training, study.selection.pvm, vocabulary=300, boundary=0)
    texts = [random.integers(1, 300, length).astype(np.int32) for length in (5, 40, 0, 16, 15, 33)]
    model, _ = trainer.train("two steps", {"pool": texts}, seed=0)
    found = trainer.losses(model, texts)
    for text, nats in zip(texts, found, strict=True):
        inputs, targets = torch.tensor([0, *text.tolist()]), torch.tensor([*text.tolist(), 0])
        windows = zip(inputs.split(16), targets.split(16), strict=True)
        with torch.no_grad():
            alone = torch.cat([model.token_losses(a[None], b[None], torch.float32).flatten() for a, b in windows])
        assert nats == pytest.approx(float(alone.mean()), rel=1e-5)
    monkeypatch.setattr(short, "AT_A_TIME", 2)
    assert trainer.losses(model, texts) == pytest.approx(found, rel=1e-5)


def test_alpha_says_how_much_of_the_pool_the_second_model_reads(monkeypatch):
    """Also where it is less than a sequence per batch; the rest of each run is the target."""
    study, asked = study_of(), []
    trainer = short.Trainer(study.training, study.selection.pvm, vocabulary=300, boundary=0)
    monkeypatch.setattr(short, "Feed", lambda sequences: asked.append(sequences) or Feed(sequences))
    texts = [np.arange(1, 200, dtype=np.int32)] * 4
    trainer.train("a part", {"target": texts, "pool": texts}, seed=0, f=0.01 / 1.01)
    assert (asked[0].stream == 1).sum() == round(80 * 8 * 0.01 / 1.01) == 6


def test_what_is_missing_is_said(tmp_path, planted):
    with pytest.raises(ValueError, match="selection.pvm: selecting by 'pvm' trains two models"):
        Study.model_validate(study_of().model_dump(exclude={"path"}) | {"selection": {}})
    lake, few = Lake(tmp_path / "lake"), [side[:20] for side in planted]
    given = publish(lake, few, tokenizer=tok.train([text for _, text in planted[0]], 512))
    with pytest.raises(LakeError, match="selection by pvm: .* are too few, 10 each are needed"):
        select(study_of(), lake, **given)
