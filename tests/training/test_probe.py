"""The guard's neural probe: models trained for real, of text that teaches and of text that harms."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import tokenizer as tok
from palimpsest.config import NeuralProbe
from palimpsest.lake import Facts
from tests.training.conftest import make_study, text
from training.probe import probe

MODEL = {"layers": 1, "width": 32, "mlp": 64, "heads": 2}
PROBE = {"model": MODEL, "steps": 14, "context": 32, "batch": 8, "optimizer": {"lr": 0.01}}


def study_of(**asked):
    study = make_study()
    strategies = {name: {"kind": "rephrase", "generations": 1, "engine": {"kind": "recorded", "file": "none"}}
                  for name in ("taught", "noise")}  # fmt: skip
    changed = study.model_dump(exclude={"path"}) | {"strategies": strategies}
    changed["layouts"] = {"real": {"kind": "real"}, "simple": {"kind": "simple", "strategy": "taught"}}
    found = type(study).model_validate(changed)
    guard = found.guard.model_copy(update={"probe": NeuralProbe.model_validate(PROBE | asked)})
    return found.model_copy(update={"guard": guard})


@pytest.fixture
def data(lake, tmp_path):
    """Real and held-out documents; more of them, and noise, as what two strategies wrote."""
    chosen = [text(number, 60) for number in range(48)]
    real, test, more = chosen[:20], chosen[20:40], chosen[40:]
    dice = random.Random(0)
    noise = ["".join(chr(dice.randrange(0x100, 0x180)) for _ in range(100)) for _ in range(8)]
    tokenizer = tok.train(real, 320)

    def rows(texts, **same):
        return [{"document_id": f"{n:04x}", "text": own, **same} for n, own in enumerate(texts)]

    def publish(stage, parents=(), **tables):
        def write(folder):
            for name, table in tables.items():
                pq.write_table(pa.Table.from_pylist(table), folder / f"{name}.parquet")
            if stage == "split":
                tokenizer.save(str(folder / "tokenizer.json"))
            return Facts()

        return lake.publish(f"studies/small/{stage}", write, parents=parents)

    same = {"origin": "real", "site": "a.example", "corpus": "c", "is_reserve": False}
    split = publish("split", train=rows(real, **same), validation=rows(test, **same))
    own = {"g": 0, "depth": 1, "model": "m", "generator_mix": None, "verdict": "accepted"}
    written = rows(more, **own, strategy="taught") + rows(noise, **own, strategy="noise")
    schema = pa.Table.from_pylist(written).schema
    schema = schema.set(schema.get_field_index("generator_mix"), pa.field("generator_mix", pa.string()))

    def write(folder):
        pq.write_table(pa.Table.from_pylist(written, schema), folder / "generations.parquet")
        dropped = pa.Table.from_pylist(rows(noise, strategy="taught", g=0))
        pq.write_table(dropped, folder / "generation_drops.parquet")
        return Facts()

    generations = lake.publish("studies/small/generations", write, parents=[split])
    mixes = publish("mixes", [generations], megadoc_parts=rows(real, domain="a.example"))
    return {"split": split, "generations": generations, "mixes": mixes}


def test_models_trained_with_noise_predict_real_text_worse_and_a_review_that_drops_it_gains(lake, data):
    published = probe(study_of(), lake, **data)
    taught, noise = (published.extra["strategies"][name] for name in ("taught", "noise"))
    assert taught["probe"]["synthetic_tokens"] < taught["probe"]["real_tokens"]
    assert len(taught["probe"]["ratios"]) == 3 and taught["half"] is None
    assert max(taught["probe"]["ratios"]) < 1.05 < min(noise["probe"]["ratios"])
    assert noise["half"]["synthetic_tokens"] == noise["probe"]["synthetic_tokens"] // 2
    assert 1 < sum(noise["half"]["ratios"]) < sum(noise["probe"]["ratios"])
    assert noise["gains"] is None, "nothing of it was dropped"
    assert len(taught["gains"]) == 3 and min(taught["gains"]) > 0
    assert probe(study_of(), lake, **data).uri == published.uri


def test_too_few_steps_to_see_all_text_are_said_and_nothing_is_trained(lake, data):
    told = probe(study_of(steps=2), lake, **data).extra["strategies"]["taught"]
    assert "2 steps of 256 tokens" in told["why"] and "steps see each of them once" in told["why"]
    with pytest.raises(ValueError, match="no guard.probe"):
        probe(make_study(), lake, **data)
