from __future__ import annotations

import json
import logging
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest import tokenizer as tok
from palimpsest.config import ConfigError, Study
from palimpsest.lake import LakeError
from tests.training.conftest import make_study, parts_table, publish_mixes, publish_split
from training import pretrain
from training.heldout import read, shared_runs
from training.pack import tokenize

OWN = [{"document_id": "v0", "text": "the moon pulls the tide", "is_short": True, "is_long": False}]
ROWS = [
    {"book": "one", "kind": "verse", "page": 1, "body": "near water follows a side"},
    {"book": "two", "kind": "verse", "body": "far hard day"},
    {"book": "one", "kind": "title", "body": "A title"},
    {"book": "one", "kind": "verse", "body": "because day follows day"},
]


def study_with(ngram=13, **sets):
    found = make_study().model_dump(mode="json")
    found["validation"]["sets"] = sets
    found["gates"]["validation_ngram"] = ngram
    return Study.model_validate(found)


def written(folder, rows=ROWS, name="elsewhere.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def published(lake, study, training=("the tide rises",)):
    split, tokenizer = publish_split(lake, OWN)
    real = [[(text, True)] for text in training]
    return split, publish_mixes(lake, study, parts_table(tokenizer, {"real": real, "simple": real}))


def read_texts(lake, **settings):
    study = study_with(books={"text": "body", **settings})
    found, _ = read(study, published(lake, study)[1])
    return {row["document_id"]: row["text"] for row in found.to_pylist()}


def test_rows_are_documents_chosen_and_joined_as_the_study_says(lake, tmp_path):
    file = written(tmp_path)
    assert read_texts(lake, files=[file], join="book", where={"kind": "verse"}) == {
        "books/one": "near water follows a side\n\nbecause day follows day",
        "books/two": "far hard day",
    }
    assert list(read_texts(lake, files=[file], max_documents=2)) == [
        "books/elsewhere.jsonl#1",
        "books/elsewhere.jsonl#2",
    ]
    assert list(read_texts(lake, files=[file], join="book", max_documents=1)) == ["books/one"]


def test_parquet_holds_the_same_documents_as_json_lines(lake, tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "elsewhere.parquet")
    settings = {"join": "book", "where": {"kind": "verse"}}
    assert read_texts(lake, files=[str(tmp_path / "*.parquet")], **settings) == read_texts(
        lake, files=[written(tmp_path)], **settings
    )


def test_files_of_the_same_name_keep_their_documents_apart(lake, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder)
    assert len(read_texts(lake, files=[str(tmp_path / "*" / "elsewhere.jsonl")])) == 2 * len(ROWS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": "words"}, r"sets\.books: .*elsewhere\.jsonl.* 'words'"),
        ({"text": "page"}, r"sets\.books: .*elsewhere\.jsonl, row 1: 'page' is no text"),
        ({"join": "chapter"}, r"sets\.books: .*elsewhere\.jsonl.* 'chapter'"),
        ({"where": {"kind": "psalm"}}, r"sets\.books: its files hold no row that fits"),
        ({"files": ["nowhere/*.jsonl"]}, r"sets\.books\.files: no file .*nowhere"),
    ],
)
def test_what_is_wrong_with_a_set_is_said(lake, tmp_path, settings, message):
    with pytest.raises((LakeError, ConfigError), match=message):
        read_texts(lake, **{"files": [written(tmp_path)], **settings})


def test_a_line_that_is_no_json_is_named(lake, tmp_path):
    file = written(tmp_path)
    with open(file, "a") as lines:
        lines.write("{\n")
    with pytest.raises(LakeError, match=r"elsewhere\.jsonl: row 5: no JSON"):
        read_texts(lake, files=[file])


def brute_force(held, training, words):
    def grams(text):
        found = "".join(c if c.isalnum() else " " for c in text.lower()).split()
        return {tuple(found[i : i + words]) for i in range(len(found) - words + 1)}

    return {i for i, text in enumerate(held) if any(grams(text) & grams(other) for _, other in training)}


@pytest.mark.parametrize("words", [3, 5])
def test_shared_runs_are_those_of_a_search_word_by_word(words):
    random.seed(words)
    make = lambda: " ".join(random.choice(["a", "b", "c", "ä-d", "E!"]) for _ in range(random.randrange(0, 40)))  # noqa: E731
    for _ in range(30):
        held, training = [make() for _ in range(6)], [(f"t{i}", make()) for i in range(2)]
        found = shared_runs(held, training, words)
        assert set(found) == brute_force(held, training, words)
        for place, (name, run) in found.items():
            normal = " ".join("".join(c if c.isalnum() else " " for c in held[place].lower()).split())
            assert f" {run} " in f" {normal} " and len(run.split()) == words
            assert name in dict(training)


def test_a_document_that_training_text_holds_a_part_of_is_left_out_counted_and_named(lake, tmp_path, caplog):
    study = study_with(ngram=4, books={"files": [written(tmp_path)], "text": "body", "join": "book"})
    split, mixes = published(lake, study, ("Water, follows a SIDE street", "something else"))
    with caplog.at_level(logging.WARNING):
        tokens = tokenize(study, lake, split=split, mixes=mixes)
    (drop,) = pq.read_table(tokens.file("validation_drops.parquet")).to_pylist()
    assert drop == {
        "set": "books", "document_id": "books/one", "reason": "leaked", "training_document_id": "d0",
        "shared": "water follows a side",
    }  # fmt: skip
    assert tokens.manifest["rows"]["dropped"] == {"leaked": 1}
    assert "1 of 2 documents are left out" in caplog.text
    assert "books/one" in caplog.text and "d0" in caplog.text
    assert pq.read_table(tokens.file("validation.index.parquet"))["document_id"].to_pylist() == ["v0", "books/two"]


def test_a_set_of_nothing_but_training_text_is_an_error_that_names_both_documents(lake, tmp_path):
    study = study_with(ngram=3, books={"files": [written(tmp_path, ROWS[1:2])], "text": "body"})
    split, mixes = published(lake, study, ("a far hard day",))
    with pytest.raises(LakeError, match=r"sets\.books: all 1 documents .*#1 and training document d0 .*“far hard day”"):
        tokenize(study, lake, split=split, mixes=mixes)


def test_named_sets_stand_behind_the_studys_own_documents_and_make_another_version(lake, tmp_path):
    file = written(tmp_path)
    study = study_with(books={"files": [file], "text": "body", "join": "book"})
    split, mixes = published(lake, study)
    plain = tokenize(make_study(), lake, split=split, mixes=mixes)
    tokens = tokenize(study, lake, split=split, mixes=mixes)
    rows = pq.read_table(tokens.file("validation.index.parquet")).to_pylist()
    assert [(row["document_id"], row["set"]) for row in rows] == [
        ("v0", None), ("books/one", "books"), ("books/two", "books"),
    ]  # fmt: skip
    assert tokens.manifest["rows"]["kept"] == plain.manifest["rows"]["kept"] + 2
    found = np.fromfile(tokens.file("validation.bin"), tokens.extra["dtype"])
    last = found[rows[2]["start"] : rows[2]["start"] + rows[2]["tokens"]]
    tokenizer = tok.load(tokens.file("tokenizer.json"))
    assert tokenizer.decode(last[:-1].tolist()) == "far hard day" and last[-1] == 0
    assert rows[2]["start"] + rows[2]["tokens"] == len(found)
    written(tmp_path, ROWS[:2])
    assert tokenize(study, lake, split=split, mixes=mixes).uri not in (tokens.uri, plain.uri)


class Recorder:
    run_id = None

    def __init__(self):
        self.found = {}

    def log_metrics(self, metrics, step):
        self.found.setdefault(step, {}).update(metrics)


def test_a_run_tells_the_loss_of_each_named_set_apart_from_its_own(lake, small, tmp_path):
    study = study_with(books={"files": [written(tmp_path)], "text": "body", "join": "book"})
    tokens = tokenize(study, lake, split=small.split, mixes=small.mixes)
    order = {"mixes": small.mixes, "run": pretrain.plan_runs(study, small.mixes)[-1]}
    plain = pretrain.train(make_study(), lake, tokens=small.tokens, **order)
    first, again = Recorder(), Recorder()
    run = pretrain.train(study, lake, tokens=tokens, **order, tracker=first)
    assert pretrain.train(study, lake, tokens=tokens, **order, tracker=again).uri == run.uri
    found = json.loads(run.file("evaluation.json").read_text())
    theirs = json.loads(plain.file("evaluation.json").read_text())
    assert {name: found["losses"][name] for name in theirs["losses"]} == theirs["losses"]
    assert (found["by_position"], found["by_length"]) == (theirs["by_position"], theirs["by_length"])
    assert theirs["sets"] == {}
    books = found["sets"]["books"]
    assert books["documents"] == 2
    for rows in (books["by_position"], books["by_length"]):
        mean = sum(row["loss"] * row["tokens"] for row in rows) / sum(row["tokens"] for row in rows)
        assert mean == pytest.approx(found["losses"]["books"])
    curve = pq.read_table(run.file("curve.parquet"))["books"].to_pylist()
    assert curve[-1] == found["losses"]["books"]
    assert {step: row["books_loss"] for step, row in first.found.items() if "books_loss" in row} == {
        step: row["books_loss"] for step, row in again.found.items() if "books_loss" in row
    }
    assert first.found[len(curve)]["books_loss"] == curve[-1]
