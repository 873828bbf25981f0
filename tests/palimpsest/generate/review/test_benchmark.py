from __future__ import annotations

import json

import pytest

from palimpsest.config import ConfigError, Review
from palimpsest.generate.review import Part, Reviewer, review_generation
from palimpsest.generate.review.benchmark import Benchmarks, load, question_and_answer
from tests.palimpsest.generate.review.conftest import REPHRASE, SOURCE

ITEMS = [
    {
        "id": "q1",
        "query": "A keeper fills the lamp of a lighthouse with oil. What keeps the flame burning through the night?",
        "choices": ["The salt in the spray", "The oxygen in the air", "The light of the moon"],
        "answer": 1,
    },
    {"id": "q2", "query": "Trim a wick.", "choices": ["Cut it square.", "Soak it in water."], "answer": 0},
    {"id": "q3", "query": "Why does a foghorn have a low note?", "choices": ["It carries farther"], "answer": 0},
    {
        "id": "q4",
        "query": "Clean a lens",
        "choices": [
            "Use a dry cloth",
            "Fold a soft cloth twice, breathe on the glass and wipe it in one slow turn from the rim inward",
        ],
        "answer": 1,
    },
    *(
        {"id": f"b{i}", "query": f"Which of the following best describes the reason why people who live near the {w}?"}
        for i, w in enumerate(("sea", "river"))
    ),
]


@pytest.fixture
def reviewer(tmp_path) -> Reviewer:
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return Reviewer("rephrase", Review(benchmarks=[str(file)]), benchmarks=load((str(file),)))


def found(text: str, reviewer: Reviewer) -> str | None:
    return review_generation([Part(text)], document=SOURCE, reviewer=reviewer).details.get("benchmark")


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("a keeper fills the lamp of a lighthouse with oil. What keeps the flame burning?", "q1"),
        ("What KEEPS the flame -- burning through the night? The oxygen, in the air", "q1"),
        ("Q: Why does a foghorn have a low note? It carries farther!", "q3"),
        ("Fold a soft cloth twice, breathe on the glass, and wipe it in one slow turn.", "q4"),
        ("Why does a foghorn have a low note? A) It is cheap B) It carries farther. C) It is old", "q3"),
        ("Why does a foghorn have a low note? It car-\n ries far\u00adther", "q3"),
    ],
)
def test_a_recited_item_is_named(reviewer, text, item):
    assert found(f"{REPHRASE} {text} {REPHRASE}", reviewer).startswith(f"items.jsonl, {item}: ")


@pytest.mark.parametrize(
    "text",
    [
        REPHRASE,
        "A keeper fills the lamp of a lighthouse with oil. What keeps",
        "What keeps the flame burning through the night? The salt in the spray, they said.",
        "Trim a wick. Cut it square.",
        "Why does a foghorn have a low note? So that ships may hear it.",
        "Which of the following best describes the reason why people who live near the lake are",
    ],
    ids=["a real text", "12 words", "a wrong answer", "a short item", "another answer", "a phrase of two items"],
)
def test_less_than_an_item_is_no_recital(reviewer, text):
    assert found(text, reviewer) is None


def test_recited_items_are_dropped_and_their_file_is_known_by_content(reviewer):
    text = "What keeps the flame burning through the night? The oxygen in the air."
    reviewed = review_generation([Part(text)], document=SOURCE, reviewer=reviewer)
    assert (reviewed.decision, reviewed.reason) == ("drop", "benchmark")
    assert [len(digest) for digest in reviewer.canonical()["benchmarks"]] == [64]
    assert (reviewer.benchmarks.items, reviewer.benchmarks.too_short) == (6, 1)


def test_files_of_one_name_are_both_in_the_key(tmp_path):
    for folder, item in zip("ab", ITEMS, strict=False):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "items.jsonl").write_text(json.dumps(item))
    files = [str(tmp_path / folder / "items.jsonl") for folder in "ab"]
    assert len(set(load(tuple(files)).canonical())) == 2
    assert load(tuple(files)).canonical() == load(tuple(reversed(files))).canonical()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"query": "Q", "choices": ["a", "b"], "answer": 1}, ("Q", "b")),
        ({"question": "Q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}, ("Q", "b")),
        ({"question": "Q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"}, ("Q", "b")),
        ({"ctx": "Q", "endings": ["a", "b"], "label": "0"}, ("Q", "a")),
        ({"goal": "Q", "sol1": "a", "sol2": "b", "label": 1}, ("Q", "b")),
        ({"question": "Q", "choices": ["a", "b"], "answer": "B"}, ("Q", "b")),
        ({"question": "Q", "answer": "b"}, ("Q", "b")),
        ({"question": "Q", "answer": ["b", "c"]}, ("Q", "b")),
        ({"question": "Q", "answer": 42}, ("Q", "42")),
        ({"question": "Q", "choices": ["a"], "answer": 7}, ("Q", "")),
        ({"question": "Q"}, ("Q", "")),
    ],
    ids=str,
)
def test_the_common_spellings_of_items(row, expected):
    assert question_and_answer(row) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file .*none.jsonl; correct 'benchmarks'"),
        ("{}\n", "line 1: no question"),
        ('{"query": "Q"}\nnot json\n', "line 2: not JSON"),
        ("[1]\n", "line 1: no question"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_line(tmp_path, content, message):
    file = tmp_path / "none.jsonl"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        Benchmarks((file,))


def test_a_changed_file_is_read_again(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps(ITEMS[0]))
    first = load((str(file),))
    assert load((str(file),)) is first
    file.write_text(json.dumps(ITEMS[0]) + "\n" + json.dumps(ITEMS[1]))
    assert load((str(file),)).items == 2
