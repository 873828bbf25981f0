from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from palimpsest.config import Study
from palimpsest.lake import LakeError
from tests.training.judged import publish_run
from training import contexts, evaluate, export, judge


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setattr(contexts, "choose_device", lambda: torch.device("cpu"))


def asking(small, *sets) -> Study:
    return Study.model_validate(small.study.model_dump() | {"judging": {"contexts": list(sets)}})


def by_hand(run, ids: list[int], context: int) -> list[tuple[int, float]]:
    """Per token: how many of the document's it sees, and its loss, each asked for by itself."""
    model, found = export.load(run.path / "model").eval(), []
    inputs = [0, *ids[:-1]]
    for place, target in enumerate(ids):
        start = next(s for s in range(0, len(ids), context // 2) if s <= place < s + context)
        window = inputs[start : place + 1]
        loss = model.token_losses(torch.tensor([window]), torch.tensor([ids[start : place + 1]]))[0, -1].item()
        assert ids[place] == target
        found.append((len(window) - (start == 0), loss))
    return found


def test_every_token_is_scored_once_with_as_much_before_it_as_its_row_says(lake, small):
    run, context = publish_run(lake, small, "simple-s0"), small.study.training.context
    published = contexts.read_contexts(asking(small, "iid"), lake, tokens=small.tokens, run=run)
    rows = pq.read_table(published.file("contexts.parquet")).to_pylist()
    ids = np.fromfile(small.tokens.file("validation.bin"), small.tokens.extra["dtype"]).tolist()
    documents = pq.read_table(small.tokens.file("validation.index.parquet")).to_pylist()
    assert max(d["tokens"] for d in documents) > 1.5 * context > 40 > min(d["tokens"] for d in documents)
    for document in documents:
        tokens = by_hand(run, ids[document["start"] : document["start"] + document["tokens"]], context)
        own = {(r["first"], r["last"]): r for r in rows if r["document_id"] == document["document_id"]}
        assert sum(row["tokens"] for row in own.values()) == len(tokens)
        for (first, last), row in own.items():
            nats = [loss for seen, loss in tokens if first <= seen <= last]
            assert row["tokens"] == len(nats) and row["nats"] == pytest.approx(sum(nats), abs=1e-3)
    assert {(r["first"], r["last"]) for r in rows} == {(0, 0), (1, 2), (3, 4), (5, 8), (9, 16), (17, 32)}
    assert published.extra["losses"]["iid"] == pytest.approx(
        sum(r["nats"] for r in rows) / sum(d["tokens"] for d in documents)
    )


@pytest.mark.parametrize(("length", "context"), [(1, 8), (8, 8), (9, 8), (30, 8), (31, 7), (5, 1)])
def test_whatever_the_lengths_every_target_has_one_place_and_beyond_the_first_window_half_a_context(length, context):
    text = np.arange(10, 10 + length)
    held_out, seen = contexts.sliding([text, text], 0, context)
    places = np.concatenate([place[place >= 0].numpy() for _, _, place in held_out.batches])
    assert sorted(places) == list(range(2 * length)) and len(seen) == 2 * length
    assert seen[:length][:context].tolist() == list(range(min(context, length)))
    assert (seen[:length][context:] > context // 2 - 1).all() and seen.max() <= context


def test_documents_within_the_context_have_the_losses_that_the_trainer_measures(lake, small):
    run = publish_run(lake, small, "simple-s0")
    published = contexts.read_contexts(asking(small, "short"), lake, tokens=small.tokens, run=run)
    files = small.tokens.file("validation.bin"), small.tokens.file("validation.index.parquet")
    facts, context = small.tokens.extra, small.study.training.context
    held_out = evaluate.load(*files, dtype=facts["dtype"], boundary=facts["boundary"], context=context)
    losses = evaluate.evaluate(export.load(run.path / "model"), held_out).losses
    assert published.extra["losses"] == {"short": pytest.approx(losses["short"], abs=1e-5)}
    assert set(pq.read_table(published.file("contexts.parquet"))["is_short"].to_pylist()) == {True}


def test_an_order_per_run_of_a_mix_and_what_was_read_is_not_read_again(lake, small, monkeypatch):
    study, run = asking(small, "iid", "long"), publish_run(lake, small, "simple-s1", seed=1)
    finals = [{"run": f"{recipe}-s1", "recipe": recipe, "seed": 1} for recipe in ("simple", "real_0p5")]
    (order,) = judge.plan_judging(study, finals, {})
    assert (order["judge"], order["name"], order["runs"]) == ("contexts", "simple-s1", ["simple-s1"])
    first = judge.judge(study, lake, tokens=small.tokens, runs=[run], order=order)
    assert first.dataset == "studies/small/contexts/simple-s1" and first.extra["seed"] == 1
    monkeypatch.setattr(contexts, "sliding", None)
    assert judge.judge(study, lake, tokens=small.tokens, runs=[run], order=order).uri == first.uri


def test_sets_that_are_not_there_are_named(lake, small):
    with pytest.raises(ValueError, match=r"judging\.contexts: .*'book'"):
        asking(small, "book")
    study = small.study.model_copy(update={"judging": small.study.judging.model_copy(update={"contexts": ["books"]})})
    with pytest.raises(LakeError, match=r"judging\.contexts: set 'books' of .* has no document"):
        contexts.read_contexts(study, lake, tokens=small.tokens, run=publish_run(lake, small, "simple-s0"))
