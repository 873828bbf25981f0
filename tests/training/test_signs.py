"""Early signs of collapse: how sure a model is against how right, and the facts it tells from others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from palimpsest import tokenizer as tok
from palimpsest.guard.cloze import Question
from palimpsest.lake import Facts
from tests.training.conftest import text
from tests.training.judged import probabilities, publish_run
from training import calibration, evaluate, export, facts, signs
from training.analysis import signs as analysis
from training.pack import tokenize


def drawn(tokens: int, *, sure: float = 0.0, seed: int = 0):
    """Tokens that are right as often as their confidence says, which is then raised by ``sure``."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.2, 0.9 - sure, tokens)
    right = random.random(tokens) < confidence
    return confidence + sure, right, np.arange(tokens) // 40


def test_a_model_that_is_right_as_often_as_it_is_sure_has_no_error_but_chance():
    found = calibration.measure(*drawn(60_000))
    assert found.ece < 0.01
    assert found.ece < 5 * found.error
    assert (found.tokens, found.documents) == (60_000, 1_500)
    assert {row["tokens"] for row in found.bins} == {4_000}
    assert all(before["highest"] <= after["lowest"] for before, after in zip(found.bins, found.bins[1:], strict=False))


@pytest.mark.parametrize("sure", [0.1, 0.25])
def test_one_that_is_too_sure_has_an_error_of_as_much(sure):
    found = calibration.measure(*drawn(30_000, sure=sure))
    assert found.ece == pytest.approx(sure, abs=0.015)
    assert found.confidence - found.accuracy == pytest.approx(sure, abs=0.015)
    assert abs(found.ece - sure) < 5 * found.error


def test_the_error_over_documents_is_that_of_other_draws():
    values = [calibration.measure(*drawn(6_000, sure=0.2, seed=seed)) for seed in range(12)]
    spread = np.std([found.ece for found in values], ddof=1)
    assert 0.5 < np.mean([found.error for found in values]) / spread < 2


def test_too_few_tokens_are_not_judged():
    with pytest.raises(ValueError, match="999 held-out tokens are too few for 15 bins"):
        calibration.measure(*drawn(999))
    one = calibration.measure(np.full(2_000, 0.5), np.arange(2_000) % 2 == 0, np.zeros(2_000))
    assert (one.ece, one.error) == (pytest.approx(0, abs=0.01), None)


def test_confidence_is_the_probability_of_the_likeliest_token(lake, small, monkeypatch):
    monkeypatch.setattr(calibration, "LEAST", 10)
    run = publish_run(lake, small, "simple-s0")
    model = export.load(run.path / "model")
    held_out = evaluate.load(
        small.tokens.file("validation.bin"), small.tokens.file("validation.index.parquet"),
        dtype=small.tokens.extra["dtype"], boundary=0, context=model.context,
    )  # fmt: skip
    found = calibration.calibrate(model, held_out, torch.float32)
    from transformers import LlamaForCausalLM

    theirs, stream = (
        LlamaForCausalLM.from_pretrained(run.path / "model").eval(),
        np.fromfile(small.tokens.file("validation.bin"), np.dtype(small.tokens.extra["dtype"])),
    )
    sure, right = [], []
    for row in pq.read_table(small.tokens.file("validation.index.parquet")).to_pylist():
        ids = stream[row["start"] : row["start"] + row["tokens"]].astype(int).tolist()
        for start in range(0, len(ids), model.context):
            inputs = [0, *ids[:-1]][start : start + model.context]
            with torch.no_grad():
                best = theirs(torch.tensor([inputs])).logits[0].softmax(-1).max(1)
            sure += best.values.tolist()
            right += (best.indices == torch.tensor(ids[start : start + model.context])).tolist()
    assert found.tokens == len(sure)
    assert found.confidence == pytest.approx(np.mean(sure), abs=1e-5)
    assert found.accuracy == pytest.approx(np.mean(right))


def test_a_choice_has_the_likelihood_of_its_tokens_behind_the_text(lake, small):
    run = publish_run(lake, small, "simple-s0")
    model, tokenizer = export.load(run.path / "model"), tok.load(small.tokens.file("tokenizer.json"))
    asked = [
        Question("d", "name", "the tide rises twice", ("a day", "a side", "water", "moon"), 0),
        Question("e", "name", text(3, 60), ("the moon", "pulls", "than", "and"), 1),
    ]
    found = facts.answer(model, tokenizer, asked, torch.float32)
    for question, likelihoods in zip(asked, found, strict=True):
        for choice, likelihood in zip(question.choices, likelihoods, strict=True):
            behind = tokenizer.encode(f" {choice}", add_special_tokens=False).ids
            ids = tokenizer.encode(question.before, add_special_tokens=False).ids + behind
            if len(ids) > model.context:  # its beginning is cut, and with it the boundary
                first, ids = ids[-model.context - 1], ids[-model.context :]
                if first != 0:
                    continue
            theirs = probabilities(run, ids, model.context)[-len(behind) :]
            assert likelihood == pytest.approx(float(theirs.log().sum()), abs=1e-3)
    assert all(value < 0 for own in found for value in own)


def test_a_share_has_its_standard_error_and_too_few_questions_have_none():
    found = facts.score([True] * 300 + [False] * 200)
    assert found == {"questions": 500, "share": 0.6, "error": pytest.approx(0.0219, abs=1e-4), "why": ""}
    assert facts.score([True] * 49)["share"] is None
    assert facts.score([])["why"] == "0 questions could be made of the text; 50 are needed"


NAMES = [a + b for a in ("Bar", "Cor", "Dun", "Fal") for b in ("dale", "field", "ham", "wick", "more", "ton")]


@pytest.fixture
def asked(lake, small):
    """The small study with training documents that hold facts."""
    rows = [
        {"document_id": f"t{n}", "is_reserve": n == 0, "origin": "real",
         "text": f"{text(n, 12)} and then it came to {NAMES[n % 24]} in {1300 + 7 * n} with water."}
        for n in range(70)
    ]  # fmt: skip

    def write(directory):
        for name in ("tokenizer.json", "validation.parquet"):
            (directory / name).write_bytes(small.split.file(name).read_bytes())
        pq.write_table(pa.Table.from_pylist(rows), directory / "train.parquet")
        return Facts()

    split = lake.publish("studies/small/split", write, config={"facts": True})
    return split, tokenize(small.study, lake, split=split, mixes=small.mixes)


def test_a_run_is_read_once_and_says_what_could_not_be_judged(lake, small, asked):
    split, tokens = asked
    run = publish_run(lake, small, "simple-s0")
    found = signs.read(small.study, lake, split=split, tokens=tokens, run=run)
    told = found.extra
    assert (told["recipe"], told["run"], told["seed"]) == ("simple", "simple-s0", 0)
    assert told["facts"]["real"]["questions"] >= 60
    assert 0 <= told["facts"]["real"]["share"] <= 1
    assert told["facts"]["held_out"]["why"] == "0 questions could be made of the text; 50 are needed"
    rows = pq.read_table(found.file("facts.parquet")).to_pylist()
    assert "t0" not in {row["document_id"] for row in rows}
    assert told["facts"]["real"]["share"] == pytest.approx(np.mean([row["right"] for row in rows]))
    assert told["calibration"]["why"].endswith("held-out tokens are too few for 15 bins; 1,000 are needed")
    assert signs.metrics(told).keys() == {"facts_real", "facts_real_error"}
    assert signs.read(small.study, lake, split=split, tokens=tokens, run=run).uri == found.uri
    assert [p.uri for p in signs.of_runs(small.study, lake, [run])] == [found.uri]
    other = publish_run(lake, small, "simple-s0", sharp=2.0)
    assert signs.of_runs(small.study, lake, [other]) == []
    (row,) = analysis.rows(small.study, [found])
    assert row["mix"] == "simple"
    assert row["facts_real"] == told["facts"]["real"]["share"]
    assert "calibration of simple not judged" in row["why"][0]
    assert "facts of held-out text, mix simple, not judged: 0 questions" in row["why"][1]


class Probe:
    def __init__(self, recipe, ece, share):
        sure = {"tokens": 9_000, "documents": 90, "ece": ece, "error": 0.002, "confidence": 0.4, "accuracy": 0.4}
        score = {"questions": 500, "share": share, "error": 0.02, "why": ""}
        self.extra = {"recipe": recipe, "calibration": sure | {"why": ""}, "facts": {"real": score, "held_out": score}}


def test_what_is_worse_than_of_real_text_alone_by_more_than_chance_is_said(small):
    same = [Probe("real", 0.02, 0.6), Probe("real", 0.024, 0.62), Probe("simple", 0.023, 0.58)]
    assert [row["sentences"] for row in analysis.rows(small.study, same)] == [[], []]
    real, simple = analysis.rows(small.study, [*same[:2], Probe("simple", 0.08, 0.4)])
    assert real["ece"] == pytest.approx(0.022)
    assert real["ece_error"] == pytest.approx(0.002)
    assert simple["sentences"][0].startswith("simple is worse calibrated than real: 0.080 against 0.022, ")
    assert simple["sentences"][1].startswith("simple knows fewer facts of the real text than real: 0.400 against 0.610")
