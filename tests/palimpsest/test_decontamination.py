"""Planted evaluation items are found in pages and in generated text, and real text is not taken for them."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
import shutil

import pyarrow.parquet as pq
import pytest

from expectations.guard.tasks import judge_tasks
from palimpsest.config import ConfigError, Corpus, EvaluationSet, corpora_dir, data_dir, load_study
from palimpsest.decontamination import index, overlaps
from palimpsest.documents import build_documents
from palimpsest.generate.review import Part, benchmark, open_reviewer, review_generation
from palimpsest.generate.review.facts import Facts
from palimpsest.ingest.stage import extract_days
from palimpsest.lake import LakeError

FILES = ("arc_easy_validation.jsonl", "piqa_validation_a.jsonl")
DAY = dt.date(2026, 10, 1)
LETTERS = "ABCDE"


def exact(question, choices, right, dice):
    return f"{question} {right}"


def respaced(question, choices, right, dice):
    marks = (" ", "  ", "\n", "\t", " ", ", ", " - ", " ... ")
    return "".join(word.upper() + dice.choice(marks) for word in re.findall(r"[^\W_]+", f"{question} {right}"))


def over_two_lines(question, choices, right, dice):
    words = f"{question} {right}".split()
    longest = max(range(len(words)), key=lambda place: len(re.sub(r"[\W_]", "", words[place])))
    cut = re.sub(r"([^\W_]{2})([^\W_]{2})", r"\1-\n\2", words[longest], count=1)
    return (
        "\n".join([" ".join(words[: len(words) // 3]), " ".join(words[len(words) // 3 : longest])])
        + " ".join(["", cut, *words[longest + 1 :]])
        if longest >= len(words) // 3
        else " ".join([*words[:longest], cut, *words[longest + 1 :]])
    )


def asked_and_answered(question, choices, right, dice):
    listed = "\n".join(f"{LETTERS[place]}) {choice}" for place, choice in enumerate(choices))
    return f"Question: {question}\n{listed}\nAnswer: {right}"


@pytest.fixture(scope="module")
def items():
    folder = data_dir() / "eval"
    if not folder.is_dir():
        pytest.skip(f"no evaluation files in {folder}; set PALIMPSEST_DATA to the data folder")
    return [
        {"name": f"{name}, {item.get('id', f'line {number}')}", **item}
        for name in FILES
        for number, item in enumerate(map(json.loads, (folder / name).read_text(encoding="utf-8").splitlines()), 1)
    ]


@pytest.fixture(scope="module")
def known(items):
    return benchmark.load(tuple(f"{data_dir()}/eval/{name}" for name in FILES))


@pytest.fixture(scope="module")
def passages():
    texts = pq.read_table(data_dir() / "text" / "web_train-00000-of-00006.parquet", columns=["text"])["text"]
    return [str(text)[:500] for text in texts[:600]]


@pytest.mark.parametrize(
    ("planted", "least"), [(exact, 0.99), (respaced, 0.99), (over_two_lines, 0.99), (asked_and_answered, 0.98)]
)
def test_planted_items_are_found(items, known, passages, planted, least):
    dice = random.Random(5)
    found = searched = 0
    for number, item in enumerate(items):
        right = item["choices"][item["answer"]]
        if len(re.findall(r"[^\W_]+", f"{item['query']} {right}")) < benchmark.SHORTEST:
            continue
        before, after = passages[number % len(passages)], passages[(number + 1) % len(passages)]
        text = f"{before}\n{planted(item['query'], item['choices'], right, dice)}\n{after}"
        hit = known.recital(Facts(text))
        searched += 1
        found += hit is not None and hit.item.removesuffix(", its answer") == item["name"] and hit.share > 0.2
    assert searched > 1_300
    assert found / searched >= least, f"{found} of {searched}"


def test_real_text_recites_nothing(known, passages):
    """The files themselves say that none of their items' runs of 8 words is in these texts."""
    assert [found for text in passages if (found := known.recital(Facts(text)))] == []


def test_columns_are_named_and_a_wrong_one_is_told(tmp_path):
    file = tmp_path / "quiz.jsonl"
    item = {"stem": "Which of the seven bridges over\u2028the old canal was the last to be built?",
            "options": ["The iron bridge", "The brick bridge by the mill"], "key": "B", "id": "x1"}  # fmt: skip
    file.write_text(json.dumps(item, ensure_ascii=False) + "\n")
    text = "Seven. Which of the seven bridges over the old canal was the last to be built? The brick one."
    known = index({"quiz": EvaluationSet(file=str(file), question="stem", choices="options", answer="key")})
    [row] = overlaps([("p1", "https://a.example/1", text), ("p2", "https://a.example/2", "Nothing of it.")], known)
    assert (row["page_id"], row["evaluation_set"], row["item"]) == ("p1", "quiz", "quiz.jsonl, x1")
    assert row["words"].startswith("which of the seven bridges") and 0.5 < row["share"] < 1
    with pytest.raises(LakeError, match=r"quiz.jsonl: line 1: no question; a line is a JSON object with query"):
        index({"quiz": EvaluationSet(file=str(file), question="query", answer="key")})
    with pytest.raises(LakeError, match="line 1: no answer in 'label'"):
        index({"quiz": EvaluationSet(file=str(file), question="stem", answer="label")})
    with pytest.raises(LakeError, match="line 1: no choices in 'choices'; correct the column"):
        index({"quiz": EvaluationSet(file=str(file), question="stem", choices="choices", answer="key")})


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("action", ["drop", "flag"])
def test_a_corpus_drops_or_flags_the_pages_that_recite_an_item(tmp_path, lake, action):
    question = "Why does the lamp of a lighthouse turn even while the sun is shining on the sea?"
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"id": 7, "question": question, "answer": "So it sets no fire"}))
    texts = [
        f"Page {n} is about the sea.\n{question if n == 2 else 'It is calm.'}\nSo it sets no fire." for n in (1, 2)
    ]
    rows = [{"url": f"https://a.example/{n}", "text": text} for n, text in enumerate(texts, 1)]
    (tmp_path / "pages.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {
        "name": "quizzed", "description": "d", "start": DAY, "end": DAY, "documents": {"disabled": ["all"]},
        "source": {"kind": "table", "files": [f"{tmp_path}/pages.jsonl"], "columns": {"url": "{url}"}},
    }  # fmt: skip
    plain = Corpus.model_validate(settings)
    extract_days(plain, [DAY], lake)
    sets = {"quiz": {"file": str(tmp_path / "quiz.jsonl")}}
    found = build_documents(
        Corpus.model_validate(settings | {"decontamination": {"sets": sets, "action": action}}), lake
    )
    [row] = pq.read_table(found.file("document_overlaps.parquet")).to_pylist()
    assert (row["url"], row["item"], row["is_document"]) == (rows[1]["url"], "quiz.jsonl, 7", action == "flag")
    drops = pq.read_table(found.file("document_drops.parquet")).to_pylist()
    if action == "flag":
        without = build_documents(plain, lake)
        assert found.file("documents.parquet").read_bytes() == without.file("documents.parquet").read_bytes()
        assert "document_overlaps.parquet" not in [file["name"] for file in without.manifest["files"]]
        assert drops == []
    else:
        assert [(d["url"], d["rule"], d["reason"]) for d in drops] == [
            (rows[1]["url"], "decontamination.overlap", "contaminated")
        ]
        assert drops[0]["value"] == row["share"] > 0.5
        assert found.manifest["rows"]["dropped"] == {"contaminated": 1}


def test_what_is_generated_from_the_corpus_is_held_to_its_sets(tmp_path, monkeypatch):
    question = "Why does the lamp of a lighthouse turn even while the sun is shining on the sea?"
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"id": 7, "question": question, "answer": "So it sets no fire"}))
    corpora = tmp_path / "corpora"
    shutil.copytree(corpora_dir(), corpora)
    with (corpora / "sample.yaml").open("a") as file:
        file.write(f"decontamination: {{sets: {{quiz: {{file: {tmp_path}/quiz.jsonl}}}}}}\n")
    before = open_reviewer(load_study("demo"), "rephrase").canonical()
    monkeypatch.setenv("PALIMPSEST_CORPORA", str(corpora))
    study = load_study("demo")
    reviewer = open_reviewer(study, "rephrase")
    assert before["benchmarks"] == [] != reviewer.canonical()["benchmarks"]
    text = f"The lamp is old. {question} It is so that it sets no fire."
    reviewed = review_generation([Part(text)], document="The lamp is old, and it turns.", reviewer=reviewer)
    assert reviewed.details["benchmark"].startswith("quiz.jsonl, 7: why does the lamp")
    [verdict] = judge_tasks(study, [text, "The lamp is old."], "texts")
    assert (verdict.gate, verdict.outcome) == ("G10", "failed") and "1 of 2 texts recite" in verdict.sentence

    key = reviewer.canonical()
    sample = corpora / "sample.yaml"
    sample.write_text(sample.read_text().replace("quiz.jsonl}", "quiz.jsonl, answer: id}"))
    assert open_reviewer(study, "rephrase").canonical() != key, "another answer may be recited elsewhere"
    (tmp_path / "quiz.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"sample.yaml: decontamination.sets.quiz.file: no file .*quiz.jsonl; "):
        open_reviewer(study, "rephrase")
