"""Influence: single steps of a model trained for real, and what they say of texts of known quality."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.guard.importance import fold
from palimpsest.lake import Lake, LakeError
from tests.training.conftest import study_content
from tests.training.selection.conftest import publish
from training.selection import influence
from training.selection.stage import select
from training.selection.target import TARGET
from training.short import Trainer

MODEL = {"layers": 1, "width": 32, "mlp": 64, "heads": 2}
ASKED = {"model": MODEL, "steps": 240, "context": 256, "batch": 4, "optimizer": {"lr": 0.01}}
PROBED = {"probes": 130, "reference_tokens": 10_000}


def study_of(**changes) -> Study:
    content = study_content(seeds=[0], precision="fp32")
    engine = {"kind": "recorded", "file": "none"}
    content["strategies"] = {"rephrase": {"kind": "rephrase", "generations": 2, "engine": engine}}
    kept = {"kind": "simple", "strategy": "rephrase", "select": {"by": "influence", "share": 0.4}}
    content["layouts"] = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "rephrase"}, "kept": kept}
    return Study.model_validate(content | {"selection": {"influence": ASKED | PROBED | changes}})


@pytest.fixture(scope="module")
def tokenizer(planted):
    return tok.train([text for _, text in planted[0]], 512)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, planted, tokenizer):
    lake = Lake(tmp_path_factory.mktemp("influence"))
    return select(study_of(), lake, **publish(lake, planted, tokenizer=tokenizer))


@pytest.fixture(scope="module")
def rows(scored):
    found = [row for row in pq.read_table(scored.file("weights.parquet")).to_pylist() if row["method"] == "influence"]
    return [row | {"influence": json.loads(row["features"])["influence"]} for row in found]


def auroc(rows, planted, bad: str, value: str) -> float:
    """How surely good generations are above those of a bad kind, of those that have the value."""
    kinds = {f"{document}/0": kind for document, kind, _ in planted[1]}
    own = [row for row in rows if kinds.get(row["id"]) in ("good", bad) and row[value] is not None]
    return roc_auc_score([kinds[row["id"]] == "good" for row in own], [row[value] for row in own])


@pytest.mark.parametrize(("bad", "measured", "told"), [("shuffled", 0.7, 0.65), ("boilerplate", 0.95, 0.95)])
def test_a_step_on_text_like_the_target_helps_it_more(rows, planted, bad, measured, told):
    assert auroc(rows, planted, bad, "influence") >= measured
    assert auroc(rows, planted, bad, "score") >= told, "as the regression has it"


def test_texts_over_the_targets_documents_are_scored_without_having_been_read(scored, rows):
    probed = [row for row in rows if row["influence"] is not None]
    assert len(probed) == scored.extra["methods"]["influence"]["figures"]["texts probed"] == PROBED["probes"]
    assert all(fold(row["document_id"]) != TARGET for row in probed)
    assert {fold(row["document_id"]) for row in rows} > {fold(row["document_id"]) for row in probed}
    assert np.isfinite([row["score"] for row in rows]).all()


def test_the_training_and_every_reading_are_what_it_costs(scored):
    told = scored.extra["methods"]["influence"]
    weights = 4 * 32 * 32 + 3 * 32 * 64 + 32 * 512
    training, readings = ASKED["steps"] * ASKED["batch"] * ASKED["context"], 131 * PROBED["reference_tokens"] / 3
    least, most = training + 0.5 * readings, training + readings + 130 * 257
    assert 6 * weights * least < told["flops"] < 1.5 * 6 * weights * most
    assert told["seconds"] > 0
    assert told["figures"]["rank correlation of score and value"] > 0.2


@pytest.fixture(scope="module")
def taught(planted, tokenizer):
    """A trainer, a learner of good pages, and texts of its vocabulary."""
    study = study_of(steps=60)
    trainer = Trainer(
        study.training, study.selection.influence, tokenizer.get_vocab_size(), tokenizer.token_to_id(tok.BOUNDARY)
    )
    pages = [np.asarray(tokenizer.encode(text).ids, np.int32) for _, text in planted[0]]
    learner, _ = trainer.learn("pages", {"pages": pages[60:]}, seed=0)
    return trainer, learner, pages


def test_a_step_is_taken_back_and_the_text_itself_is_of_most_influence_on_itself(taught):
    trainer, learner, pages = taught
    reference, texts = [pages[0][:63]], [page[:64] for page in pages[:8]]
    texts.append(np.random.default_rng(0).permutation(texts[0]))
    kept = {name: value.clone() for name, value in learner.model.state_dict().items()}
    before, found = influence.measure(trainer, learner, texts, reference, 1e-3)
    assert all(value.equal(kept[name]) for name, value in learner.model.state_dict().items())
    assert before == pytest.approx(trainer.losses(learner.model, reference)[0])
    assert found.argmax() == 0 and found[0] > 2 * found[-1], "it counts in which order the words stand"
    again = influence.measure(trainer, learner, texts[::-1], reference, 1e-3)[1]
    assert again[::-1] == pytest.approx(found, rel=1e-9), "no step is of any before it"
    small = influence.measure(trainer, learner, texts[:1], reference, 1e-4)[1]
    assert small[0] == pytest.approx(found[0] / 10, rel=0.3)


def test_weight_decay_is_no_part_of_influence(taught):
    trainer, learner, pages = taught
    reference, texts, optimizer = [pages[0][:63]], [page[:64] for page in pages[:3]], learner.optimizer
    found = {}
    for decay in (0.0, 10.0):
        optimizer.groups = [(parameters, decay) for parameters, _ in optimizer.groups]
        found[decay] = influence.measure(trainer, learner, texts, reference, 1e-3)[1].tolist()
    assert found[10.0] == found[0.0]


def test_at_most_half_of_the_texts_are_probed_so_that_there_are_others_to_learn_from():
    learned, lots = np.array([True, True, False, True, True, True]), np.array([0.9, 0.2, 0.0, 0.1, 0.5, 0.4])
    assert influence.sampled(learned, lots, 1).tolist() == [3]
    assert influence.sampled(learned, lots, 5).tolist() == [3, 1]


def test_what_is_missing_is_said(tmp_path, planted, tokenizer):
    with pytest.raises(ValueError, match="selection.influence: selecting by 'influence' trains a model"):
        Study.model_validate(study_of().model_dump(exclude={"path"}) | {"selection": {}})
    lake = Lake(tmp_path / "lake")
    given = publish(lake, planted, tokenizer=tokenizer)
    with pytest.raises(LakeError, match="selection by influence: . measured texts in the smallest fold are too few"):
        select(study_of(probes=20, steps=1), lake, **given)
    few = publish(Lake(tmp_path / "few"), [side[:30] for side in planted], tokenizer=tokenizer)
    with pytest.raises(LakeError, match="selection by influence: .* are too few, 10 each are needed"):
        select(study_of(), few["split"].lake, **few)
