"""The testbed of web text: real passages, and worse and generated ones among them."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.guard.tokens import TOKEN
from palimpsest.lake import Lake
from training.analysis import testbed
from training.testbeds import stage
from training.testbeds.docs import influence, settings, worth
from training.testbeds.docs.arms import Bench
from training.testbeds.web import texts
from training.testbeds.web.parts import TESTBED


@pytest.fixture
def data(monkeypatch, tmp_path, pages):
    """A data folder whose web text are pages of Python's help in two files, one page in both; passages are short."""
    folder = tmp_path / "data" / "text"
    folder.mkdir(parents=True)
    for number, own in enumerate((pages[:300], pages[299:])):
        pq.write_table(pa.table({"text": own}), folder / f"web_train-0000{number}-of-00002.parquet")
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(texts, "PASSAGE", 50)
    return folder


def words_of(published, name: str) -> list[dict]:
    rows = pq.read_table(published.file(f"{name}.parquet")).to_pylist()
    return [row | {"words": row["text"].split(" ")} for row in rows]


def test_passages_are_real_ones_and_others_are_worse_or_generated(data, tmp_path, pages):
    published = texts.publish(Lake(tmp_path / "lake"), 0)
    pool, vouched = words_of(published, "generations"), words_of(published, "train")
    clean = {kind: [row for row in pool if row["kind"] == kind] for kind in texts.GRADES}
    each = len(clean["code"])
    assert {kind: len(own) for kind, own in clean.items()} == dict.fromkeys(texts.GRADES, each) | {
        "clean": len(pool) - 9 * each
    }
    whole = [" ".join(TOKEN.findall(page)) for page in pages]
    for row in clean["clean"] + vouched:
        assert len(row["words"]) == 50
        assert any(row["text"] in page for page in whole)
    kept = [row["text"] for row in (*clean["clean"], *vouched, *words_of(published, "test"))]
    assert len(set(kept)) == len(kept), "no passage is in two parts"
    known = {word for row in vouched for word in row["words"]}
    for kind in texts.SELF:
        made = [word for row in clean[kind] for word in row["words"]]
        assert np.mean([word in known for word in made]) > 0.99, "the model knows what is vouched for, and nothing else"
    assert set(clean["self once"][0]["words"]) != set(clean["self twice"][0]["words"])
    recorded = [json.loads(line) for line in texts.REPHRASES.read_text(encoding="utf-8").splitlines()]
    spoken = [" ".join(TOKEN.findall(row["text"])) for row in recorded if row["strategy"] == "rephrase"]
    assert all(any(row["text"] in text for text in spoken) for row in clean["rephrased"])


def test_length_tells_nothing_of_generated_texts(data, tmp_path):
    pool = words_of(texts.publish(Lake(tmp_path / "lake"), 0), "generations")
    counts = Counter(len(row["words"]) for row in pool if not row["kind"].startswith("misread"))
    assert counts.keys() == {50}


def test_a_seed_draws_its_own_documents_and_other_data_is_another_version(data, tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "DOCUMENTS", 200)
    first = texts.documents(0)
    assert len(first) == 200
    assert texts.documents(0) == first
    assert set(texts.documents(1)) != set(first)
    lake = Lake(tmp_path / "lake")
    one = texts.publish(lake, 0)
    assert texts.publish(lake, 0).uri == one.uri
    file = data / "web_train-00001-of-00002.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    assert texts.publish(lake, 0).uri != one.uri


def test_what_is_missing_is_said(monkeypatch, tmp_path, data):
    with pytest.raises(ValueError, match="240 rephrases, and 300 are needed; draw fewer documents"):
        texts._generated([np.arange(9)], [], 300, None, np.random.default_rng(0))
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="testbed web: no file .*; put the data there, or set PALIMPSEST_DATA"):
        texts.publish(Lake(tmp_path / "lake"), 0)


def test_worth_is_what_texts_bring_beside_clean_ones(data, tmp_path):
    found = {row["kind"]: row["worth"] for row in worth.measure(Bench(texts.publish(Lake(tmp_path / "lake"), 0), 0))}
    assert found.keys() == texts.GRADES.keys()
    assert found["clean"] == 1
    assert found["boilerplate"] < found["shuffled 100"] < found["shuffled 30"] < 1
    assert found["code"] < 0


def test_the_command_measures_every_arm_and_the_page_has_them_and_what_kinds_are_worth(data, monkeypatch, tmp_path):
    for module in (settings, influence):
        monkeypatch.setattr(module, "STEPS", 4)
    monkeypatch.setattr(influence, "PROBES", 120)
    monkeypatch.setattr(influence, "REFERENCE", 500)
    monkeypatch.setenv("PALIMPSEST_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr(testbed, "REPOSITORY", tmp_path)
    (tmp_path / "docs" / "results").mkdir(parents=True)
    told = stage.main(TESTBED, 1, ["worth", "simple", "influence", "pvm"]).read_text()
    assert told.startswith("# Selection of web text")
    for arm in ("influence", "PVM, alpha 0.1", "PVM, alpha 1"):
        assert f"| {arm}: better than rank average, paired, in ≥ 4 of 5 seeds |" in told
    assert "| self once | 0.8 | " in told
    assert "| influence | texts probed | 120.000 |" in told
    assert "| influence | spread of influence | 0.000" in told
    assert "| influence | spread of influence | 0.000000 |" not in told, "small figures have their digits"
    assert "python -m training testbed web --seeds 5" in told
