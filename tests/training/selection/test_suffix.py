"""How much likelier a rationale makes what follows: each score by hand, and what a layout makes of it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from palimpsest import align
from palimpsest import tokenizer as tok
from palimpsest.config import Model, Study
from palimpsest.lake import Facts, Lake, LakeError, NotPublished
from tests.training.conftest import study_content
from training import export
from training.model import Decoder
from training.selection.stage import select

PLACES, CANDIDATES, CONTEXT, TOKENS = 2, 3, 64, 12
WORDS = (
    "the",
    "tide",
    "turns",
    "twice",
    "a",
    "day",
    "and",
    "bread",
    "wants",
    "time",
    "to",
    "rise",
    "before",
    "it",
    "is",
)


def study_of(**changes) -> Study:
    content, engine = study_content(seeds=[0]), {"kind": "recorded", "file": "none"}
    content["strategies"] = {
        "thought": {"kind": "rationale", "generations": PLACES, "candidates": CANDIDATES, "engine": engine},
        "rephrase": {"kind": "rephrase", "generations": 1, "engine": engine},
    }
    first = {"kind": "stretched", "strategy": "thought"}
    best = first | {"select": {"by": "suffix", "each": "place"}}
    content["layouts"] = {"real": {"kind": "real"}, "first": first, "best": best}
    content["mixes"] = {"real": {"layout": "real", "epochs": 1}}
    return Study.model_validate(content | {"selection": {"suffix": {"model": "run:other/real-s0", "tokens": TOKENS}
                                                         | changes}})  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return tok.train([" ".join(WORDS)] * 4, 300)


@pytest.fixture(scope="module")
def texts(tokenizer):
    """By document its slices, and by sample its rationales; the last document is short, the first longer than all."""
    random = np.random.default_rng(0)

    def drawn(words: int) -> str:
        return " ".join(random.choice(WORDS, words)) + " "

    found = {}
    for n in range(6):
        text = "xyz" if n == 5 else drawn(60 if n == 0 else 20)
        slices = tok.slices(tokenizer, text, PLACES + 1)
        samples = {c * PLACES + p: drawn(4 + 3 * c) for c in range(CANDIDATES) for p in range(len(slices) - 1)}
        found[f"d{n}"] = slices, samples
    return found


def publish(lake: Lake, texts, tokenizer, *, without: str = ""):
    """Split, plan and generations of the texts, one of them rephrased; the slices of a document may be left out."""
    tables = {
        "train": [
            {"document_id": key, "text": "".join(slices), "tokens": 9, "origin": "real", "is_reserve": False}
            for key, (slices, _) in texts.items()
        ],
        "slices": [
            {"document_id": key, "strategy": "thought", "slice": n, "text": part}
            for key, (slices, _) in texts.items() for n, part in enumerate(slices) if key != without
        ],
        "generations": [
            {"generation_id": f"{key}/{g}", "document_id": key, "strategy": "thought", "g": g, "text": own, "tokens": 9}
            for key, (_, samples) in texts.items() for g, own in samples.items()
        ] + [{"generation_id": "other", "document_id": "d1", "strategy": "rephrase", "g": 0, "text": "x", "tokens": 1}],
    }  # fmt: skip

    def write(name):
        def inside(folder):
            pq.write_table(pa.Table.from_pylist(tables[name]), folder / f"{name}.parquet")
            tokenizer.save(str(folder / "tokenizer.json"))
            return Facts()

        return inside

    split = lake.publish("studies/small/split", write("train"))
    plan = lake.publish("studies/small/plan", write("slices"), config={"without": without}, parents=[split])
    return {"split": split, "generations": lake.publish("studies/small/generations", write("generations"),
                                                        parents=[split, plan])}  # fmt: skip


def publish_run(lake: Lake, tokenizer, seed: int = 0) -> Decoder:
    model = Decoder(
        Model(layers=1, width=32, mlp=64, heads=2), vocab=tokenizer.get_vocab_size(), context=CONTEXT, seed=seed
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # far from even, so that what precedes matters

    def write(folder):
        tokenizer.save(str(folder / "tokenizer.json"))
        export.export(model, folder / "tokenizer.json", folder / "model")
        return Facts()

    lake.publish("studies/other/runs/real-s0", write, config={"seed": seed})
    return model


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return Lake(tmp_path_factory.mktemp("suffix"))


@pytest.fixture(scope="module")
def model(lake, tokenizer):
    return publish_run(lake, tokenizer)


@pytest.fixture(scope="module")
def given(lake, texts, tokenizer):
    return publish(lake, texts, tokenizer)


@pytest.fixture(scope="module")
def scored(lake, given, model):
    return select(study_of(), lake, **given)


@pytest.fixture(scope="module")
def rows(scored):
    return pq.read_table(scored.file("weights.parquet")).to_pylist()


def log_probability(model, tokenizer, before: list[str], after: list[str]) -> float:
    """By a single pass without padding; what is predicted is the first tokens of ``after``."""
    ids = [[tokenizer.token_to_id(tok.BOUNDARY)], *(tokenizer.encode(part).ids for part in before)]
    target = [token for part in after for token in tokenizer.encode(part).ids][:TOKENS]
    whole = torch.tensor([token for part in ids for token in part] + target)[-(CONTEXT + 1) :]
    with torch.no_grad():
        logs = torch.log_softmax(model.logits(whole[None, :-1])[0].double(), -1)
    return float(logs.gather(1, whole[1:, None])[-len(target) :].sum())


def test_a_score_is_what_the_rationale_adds_to_the_log_probability_of_the_text_after_it(model, rows, texts, tokenizer):
    found = {row["id"]: row for row in rows if row["strategy"] == "thought"}
    lengths = set()
    for key, (slices, samples) in texts.items():
        for g, thought in samples.items():
            before, after = slices[: g % PLACES + 1], slices[g % PLACES + 1 :]
            bare = log_probability(model, tokenizer, before, after)
            told = log_probability(model, tokenizer, [*before, f"<think>{thought}</think>"], after)
            own = json.loads(found[f"{key}/{g}"]["features"])
            assert (own["log_probability"], own["without"]) == pytest.approx((told, bare), abs=1e-3)
            assert found[f"{key}/{g}"]["score"] == pytest.approx(told - bare, abs=1e-3)
            lengths.add(own["suffix_tokens"])
    assert len(found) == sum(len(samples) for _, samples in texts.values())
    assert max(lengths) == TOKENS > min(lengths), "the short document has less after its places"
    assert len(tokenizer.encode("".join(texts["d0"][0])).ids) > CONTEXT, "so some had to be left out"


def test_other_texts_have_no_place_and_no_score(rows, scored):
    other = [row for row in rows if row["strategy"] != "thought"]
    assert {row["score"] for row in other} == {0.0}
    assert {json.loads(row["features"])["without"] for row in other} == {None}
    figures = scored.extra["methods"]["suffix"]["figures"]
    assert figures["mean gain of the best of a place"] > figures["mean gain of a rationale"]
    parents = [parent["dataset"] for parent in scored.lake.latest("studies/small/scores/suffix").manifest["parents"]]
    assert parents[2:] == ["studies/small/plan", "studies/other/runs/real-s0"]
    assert scored.extra["methods"]["suffix"]["flops"] > 0


def test_a_layout_keeps_the_best_candidate_of_each_place_and_no_document_is_chosen(lake, given, scored, rows, texts):
    weighed = align.weigh(study_of(), lake, **given, selection=scored)
    fate = {row["generation_id"]: row["keeps"] for row in pq.read_table(weighed.file("weights.parquet")).to_pylist()}
    score = {row["id"]: row["score"] for row in rows if row["strategy"] == "thought"}
    assert fate.keys() == score.keys(), "every candidate has its row, and nothing else"
    for key, (slices, _) in texts.items():
        for place in range(len(slices) - 1):
            own = [f"{key}/{c * PLACES + place}" for c in range(CANDIDATES)]
            assert [name for name in own if fate[name]] == [max(own, key=score.get)]
    assert weighed.extra["layouts"]["best"]["rule"] == "by suffix, the best of each place"


def test_another_model_scores_again_and_what_cannot_be_read_says_so(tmp_path, texts, tokenizer):
    lake = Lake(tmp_path / "lake")
    given = publish(lake, texts, tokenizer)
    with pytest.raises(NotPublished, match="studies/other/runs/real-s0 has never been published"):
        select(study_of(), lake, **given)
    publish_run(lake, tokenizer)
    first = select(study_of(), lake, **given)
    publish_run(lake, tokenizer, seed=1)
    assert select(study_of(), lake, **given).digest != first.digest
    with pytest.raises(LakeError, match="suffix.tokens is 64, and run:other/real-s0 has a context of 64 tokens"):
        select(study_of(tokens=CONTEXT), lake, **given)
    lost = publish(Lake(tmp_path / "lost"), texts, tokenizer, without="d3")
    publish_run(lost["split"].lake, tokenizer)
    with pytest.raises(LakeError, match="no slices of document d3 for strategy thought; plan and generate again"):
        select(study_of(), lost["split"].lake, **lost)
