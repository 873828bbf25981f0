from __future__ import annotations

import importlib.util
import json
import math
import random
import socket

import pyarrow.parquet as pq
import pytest
import torch

from palimpsest.config import ConfigError, Study
from palimpsest.lake import LakeError
from tests.training.conftest import WORDS, make_study
from tests.training.judged import publish_run
from training import downstream

needs_harness = pytest.mark.skipif(not importlib.util.find_spec("lm_eval"), reason="lm-eval is missing: make tasks")


def study_with(**tasks):
    found = make_study(context=64).model_dump(mode="json")
    found["judging"]["tasks"] = tasks
    return Study.model_validate(found)


def questions(count=40):
    random.seed(0)
    some = lambda low, high: " ".join(random.choice(WORDS) for _ in range(random.randrange(low, high)))  # noqa: E731
    rows = [
        {"query": some(2, 9), "choices": [some(1, 6) for _ in range(random.choice([2, 3, 4]))]} for _ in range(count)
    ]
    return [row | {"answer": random.randrange(len(row["choices"]))} for row in rows]


def written(folder, rows, name="questions.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@pytest.fixture
def student_of(lake, small, monkeypatch):
    """A run whose model takes so many tokens."""
    student = pytest.importorskip("training.student")
    monkeypatch.setattr(student, "choose_device", lambda: torch.device("cpu"))
    return lambda context: publish_run(
        lake, type(small)(make_study(context=context), small.split, small.mixes, small.tokens), "simple-s0"
    )


@pytest.fixture
def student(student_of):
    return student_of(64)


def by_hand(run, rows, prompt="Question: {query}\nAnswer:"):
    """Log-likelihoods of the answers' tokens by transformers, each question and answer by itself."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(run.path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    found = []
    for row in rows:
        found.append([])
        for choice in row["choices"]:
            before = tokenizer(prompt.format(**row))["input_ids"]
            ids = torch.tensor([0, *before, *tokenizer(f" {choice}")["input_ids"]])
            with torch.no_grad():
                logs = model(ids[None]).logits[0].double().log_softmax(-1)
            answer = range(len(before) + 1, len(ids))
            found[-1].append(sum(logs[at - 1, ids[at]].item() for at in answer))
    return found


@needs_harness
def test_accuracies_are_those_of_log_likelihoods_computed_one_by_one(lake, student, tmp_path):
    rows = questions()
    study = study_with(made_up={"file": written(tmp_path, rows)})
    published = downstream.ask(study, lake, run=student)
    expected = by_hand(student, rows)
    answers = pq.read_table(published.file("answers.parquet")).to_pylist()
    assert [answer["question"] for answer in answers] == list(range(len(rows)))
    for answer, likelihoods in zip(answers, expected, strict=True):
        assert answer["log_likelihoods"] == pytest.approx(likelihoods, abs=1e-4)
    right, right_norm = [], []
    for row, likelihoods in zip(rows, expected, strict=True):
        by_character = [value / len(choice) for value, choice in zip(likelihoods, row["choices"], strict=True)]
        right.append(likelihoods.index(max(likelihoods)) == row["answer"])
        right_norm.append(by_character.index(max(by_character)) == row["answer"])
    chance = sum(1 / len(row["choices"]) for row in rows) / len(rows)
    (task,) = pq.read_table(published.file("tasks.parquet")).to_pylist()
    n = len(rows)
    for name, found in (("acc", right), ("acc_norm", right_norm)):
        acc = sum(found) / n
        assert task[name] == pytest.approx(acc)
        assert task[f"{name}_stderr"] == pytest.approx(math.sqrt(acc * (1 - acc) / (n - 1)))
        assert task[f"{name}_above_chance"] == pytest.approx((acc - chance) / (1 - chance))
    assert task["chance"] == pytest.approx(chance)
    assert (task["run"], task["recipe"], task["task"], task["questions"], task["cut"]) == (
        "simple-s0", "simple", "made_up", n, 0,
    )  # fmt: skip
    assert 0 < task["acc"] < 1


@needs_harness
def test_a_paragraph_that_supports_the_question_stands_before_it(lake, student, tmp_path):
    rows = [row | {"support": " the moon pulls"} for row in questions(6)]
    published = downstream.ask(study_with(t={"file": written(tmp_path, rows)}), lake, run=student)
    expected = by_hand(student, rows, "the moon pulls\nQuestion: {query}\nAnswer:")
    for answer, likelihoods in zip(pq.read_table(published.file("answers.parquet")).to_pylist(), expected, strict=True):
        assert answer["log_likelihoods"] == pytest.approx(likelihoods, abs=1e-4)


@needs_harness
def test_examples_come_from_the_other_questions_and_only_the_first_questions_are_asked(
    lake, student, tmp_path, monkeypatch
):
    from training.student import Student

    asked, rows = [], questions(8)
    original = Student._loglikelihood_tokens

    def listen(self, requests, **options):
        asked.extend(text for (text, _), *_ in requests)
        return original(self, requests, **options)

    monkeypatch.setattr(Student, "_loglikelihood_tokens", listen)
    study = study_with(t={"file": written(tmp_path, rows), "shots": 2, "max_questions": 3})
    published = downstream.ask(study, lake, run=student)
    (task,) = pq.read_table(published.file("tasks.parquet")).to_pylist()
    assert (task["questions"], task["shots"]) == (3, 2)
    prompts = list(dict.fromkeys(asked))
    assert len(prompts) == 3
    solved = {f"Question: {row['query']}\nAnswer: {row['choices'][row['answer']]}" for row in rows}
    for row, prompt in zip(rows, prompts, strict=False):
        *examples, own = prompt.split("\n\n")
        assert own == f"Question: {row['query']}\nAnswer:"
        assert len(set(examples)) == 2 and set(examples) <= solved
        assert not any(example.startswith(own) for example in examples)


@needs_harness
def test_a_question_that_does_not_fit_loses_its_beginning_and_is_counted(lake, student, tmp_path):
    row = {"query": "the tide " * 60, "choices": ["rises", "the moon"], "answer": 0}
    published = downstream.ask(study_with(t={"file": written(tmp_path, [row])}), lake, run=student)
    assert pq.read_table(published.file("tasks.parquet"))["cut"].to_pylist() == [2]
    (answer,) = pq.read_table(published.file("answers.parquet")).to_pylist()
    assert all(math.isfinite(value) and value < 0 for value in answer["log_likelihoods"])


@needs_harness
def test_an_answer_longer_than_the_context_is_read_in_windows(lake, student, tmp_path):
    from transformers import AutoTokenizer, LlamaForCausalLM

    row = {"query": "why", "choices": ["xyz " * 40, "the moon"], "answer": 0}
    published = downstream.ask(study_with(t={"file": written(tmp_path, [row])}), lake, run=student)
    (answer,) = pq.read_table(published.file("answers.parquet")).to_pylist()
    model = LlamaForCausalLM.from_pretrained(student.path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(student.path / "model")
    before, ids = (tokenizer(text)["input_ids"] for text in ("Question: why\nAnswer:", " " + row["choices"][0]))
    assert 128 < len(ids) <= 192
    text, expected = [0, *before, *ids][-193:], 0.0
    first = len(text) - len(ids)
    for start in range(0, len(text) - 1, 64):
        with torch.no_grad():
            logs = model(torch.tensor([text[:-1][start : start + 64]])).logits[0].double().log_softmax(-1)
        targets = text[start + 1 : start + 65]
        expected += sum(logs[i, target].item() for i, target in enumerate(targets) if start + 1 + i >= first)
    assert answer["log_likelihoods"][0] == pytest.approx(expected, abs=1e-3)


@needs_harness
def test_nothing_is_looked_for_on_the_network(lake, student, tmp_path, monkeypatch):
    called = []
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda *a, **_: called.append(a) or 0)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: called.append(a) or [])
    downstream.ask(study_with(t={"file": written(tmp_path, questions(4))}), lake, run=student)
    assert called == []


@needs_harness
@pytest.mark.parametrize("name", ["arc_easy_validation", "piqa_validation_a"])
def test_the_shared_tasks_agree_with_transformers(lake, student_of, shared, name):
    file = shared / "data" / "eval" / f"{name}.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is absent")
    rows, student = [json.loads(line) for line in file.read_text().splitlines()][:20], student_of(768)
    published = downstream.ask(study_with(task={"file": str(file), "max_questions": 20}), lake, run=student)
    answers = pq.read_table(published.file("answers.parquet")).to_pylist()
    for row, answer, likelihoods in zip(rows, answers, by_hand(student, rows), strict=True):
        assert answer["log_likelihoods"] == pytest.approx(likelihoods, rel=1e-5)
        assert answer["acc"] == (likelihoods.index(max(likelihoods)) == row["answer"])
    assert pq.read_table(published.file("tasks.parquet"))["cut"].to_pylist() == [0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q", "choices": ["a"], "answer": 0}, "'choices' are fewer than two"),
        ({"query": "q", "choices": ["a", " "], "answer": 0}, "not all of them texts"),
        ({"query": "q", "choices": ["a", "b"], "answer": 2}, "'answer' is 2, an index from 0 to 1"),
        ({"query": "q", "choices": ["a", "b"], "answer": "a"}, "'answer' is missing or of the wrong type"),
        ({"choices": ["a", "b"], "answer": 0}, "'query' is missing"),
        ([1], "not a JSON object"),
    ],
)
def test_a_wrong_question_is_named_by_file_and_line(tmp_path, row, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    study = study_with(t={"file": written(tmp_path, [*questions(3), row])})
    with pytest.raises(LakeError, match=rf"questions\.jsonl, line 4: .*{message}"):
        downstream.require(study)


def test_a_missing_file_and_too_few_questions_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    with pytest.raises(ConfigError, match=r"judging\.tasks\.t\.file: no file .*nothing\.jsonl"):
        downstream.require(study_with(t={"file": str(tmp_path / "nothing.jsonl")}))
    with pytest.raises(LakeError, match="3 questions are too few for 3 examples"):
        downstream.require(study_with(t={"file": written(tmp_path, questions(3)), "shots": 3}))


def test_without_the_harness_a_study_with_tasks_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    study = study_with(arc={"file": written(tmp_path, questions(3))})
    with pytest.raises(ConfigError, match=r"judging\.tasks \(arc\): .*not installed.*'make tasks'"):
        downstream.require(study)
    downstream.require(make_study())
