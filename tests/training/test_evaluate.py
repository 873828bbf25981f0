from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from palimpsest.config import Model
from palimpsest.lake import LakeError
from training import evaluate
from training.model import Decoder

DOCUMENTS = [
    (5, True, False, None), (40, False, True, None), (1, True, False, None), (23, False, False, None),
    (16, False, False, None), (33, None, None, "books"), (3, None, None, "books"), (9, None, None, "news"),
]  # fmt: skip
OWN = 5
CONTEXT = 16


@pytest.fixture
def documents(tmp_path):
    random = np.random.default_rng(0)
    found = [np.append(random.integers(1, 320, size), 0) for size, *_ in DOCUMENTS]
    np.concatenate(found).astype("<u2").tofile(tmp_path / "validation.bin")
    index = {
        "start": np.cumsum([0] + [len(d) for d in found])[:-1],
        "tokens": [len(d) for d in found],
        "set": [name for *_, name in DOCUMENTS],
        "is_short": [short for _, short, *_ in DOCUMENTS],
        "is_long": [long for _, _, long, _ in DOCUMENTS],
    }
    pq.write_table(pa.table(index), tmp_path / "validation.index.parquet")
    return tmp_path, found


@pytest.fixture
def model():
    decoder = Decoder(Model(layers=1, width=32, mlp=64, heads=2), vocab=320, context=CONTEXT)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(5)
    return decoder


def held_out(folder):
    files = folder / "validation.bin", folder / "validation.index.parquet"
    return evaluate.load(*files, dtype="<u2", boundary=0, context=CONTEXT)


def one_by_one(model, document):
    """The rule written out: boundary first, windows of CONTEXT without overlap."""
    inputs, losses = [0, *document[:-1]], []
    for start in range(0, len(document), CONTEXT):
        cut = slice(start, start + CONTEXT)
        with torch.no_grad():
            logits = model.logits(torch.tensor([inputs[cut]]))[0]
        losses += F.cross_entropy(logits, torch.tensor(document[cut]), reduction="none").tolist()
    return losses


@pytest.mark.parametrize("batch_tokens", [1, 50, 8192])
def test_set_losses_weigh_every_token_once_however_documents_are_batched(documents, model, monkeypatch, batch_tokens):
    monkeypatch.setattr(evaluate, "BATCH_TOKENS", batch_tokens)
    folder, found = documents
    losses = [one_by_one(model, document) for document in found]
    evaluation = evaluate.evaluate(model, held_out(folder))
    expected = {
        "iid": losses[:OWN], "short": [losses[0], losses[2]], "long": [losses[1]],
        "books": losses[5:7], "news": losses[7:],
    }  # fmt: skip
    assert list(evaluation.losses) == list(expected)
    for name, members in expected.items():
        assert evaluation.losses[name] == pytest.approx(np.mean(sum(members, [])), rel=1e-5)


def test_position_buckets_are_powers_of_two_and_add_up_to_the_whole(documents, model):
    folder, found = documents
    evaluation = evaluate.evaluate(model, held_out(folder))
    buckets = evaluation.by_position
    assert [(b["first"], b["last"]) for b in buckets] == [(1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63)]
    assert [b["tokens"] for b in buckets] == [
        sum(max(0, min(len(d), b["last"]) - b["first"] + 1) for d in found[:OWN]) for b in buckets
    ]
    total = sum(b["tokens"] for b in buckets)
    assert sum(b["loss"] * b["tokens"] for b in buckets) / total == pytest.approx(evaluation.losses["iid"])
    assert buckets[0]["loss"] == pytest.approx(np.mean([one_by_one(model, d)[0] for d in found[:OWN]]), rel=1e-5)


def test_length_buckets_hold_whole_documents_of_one_set(documents, model):
    folder, found = documents
    evaluation = evaluate.evaluate(model, held_out(folder))
    own, books = evaluation.by_length, evaluation.sets["books"]
    assert [(b["first"], b["last"], b["documents"], b["tokens"]) for b in own] == [
        (2, 3, 1, 2), (4, 7, 1, 6), (16, 31, 2, 41), (32, 63, 1, 41),
    ]  # fmt: skip
    assert [(b["first"], b["documents"], b["tokens"]) for b in books["by_length"]] == [(4, 1, 4), (32, 1, 34)]
    middle = one_by_one(model, found[3]) + one_by_one(model, found[4])
    assert own[2]["loss"] == pytest.approx(np.mean(middle), rel=1e-5)
    assert books["by_length"][1]["loss"] == pytest.approx(np.mean(one_by_one(model, found[5])), rel=1e-5)
    assert (books["documents"], books["tokens"]) == (2, 38)
    assert sum(b["tokens"] for b in books["by_position"]) == 38
    assert list(evaluation.sets) == ["books", "news"]


def test_an_empty_set_has_no_loss(documents, model):
    folder, _ = documents
    table = pq.read_table(folder / "validation.index.parquet")
    never = table.drop_columns("is_long").append_column("is_long", pa.array([False] * len(table)))
    pq.write_table(never, folder / "validation.index.parquet")
    assert evaluate.evaluate(model, held_out(folder)).losses["long"] is None


def test_an_untrained_model_knows_nothing(documents):
    folder, _ = documents
    model = Decoder(Model(layers=1, width=32, mlp=64, heads=2), vocab=320, context=CONTEXT)
    assert evaluate.evaluate(model, held_out(folder)).losses["iid"] == pytest.approx(math.log(320), abs=0.05)


def test_no_validation_document_is_an_error_that_names_the_file(documents):
    folder, _ = documents
    others = pq.read_table(folder / "validation.index.parquet").slice(OWN)
    pq.write_table(others, folder / "validation.index.parquet")
    with pytest.raises(LakeError, match=r"validation\.index\.parquet: no validation documents"):
        held_out(folder)


def test_an_evaluation_does_not_start_the_compiler_again_for_each_length(documents, model):
    folder, _ = documents
    expected = evaluate.evaluate(model, held_out(folder))
    compiled = []

    def backend(graph, examples):
        compiled.append(examples)
        return graph.forward

    model.blocks[0].compile(backend=backend)
    assert evaluate.evaluate(model, held_out(folder)) == expected
    assert compiled == []
    model.loss(torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 8, dtype=torch.long))
    assert len(compiled) == 1
