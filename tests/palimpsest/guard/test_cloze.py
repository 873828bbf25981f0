"""Questions about facts: what is asked, among what, and that nothing can be copied."""

from __future__ import annotations

import random

import pytest

from palimpsest.guard import cloze
from palimpsest.guard.cloze import CHOICES, PER_DOCUMENT, questions, shape

NAMES = [
    a + b for a in ("Bar", "Cor", "Dun", "Fal", "Gor", "Hol", "Kel", "Lor") for b in ("dale", "field", "ham", "wick")
]


def document(number: int) -> tuple[str, str]:
    choose = random.Random(number)
    name, other = choose.sample(NAMES, 2)
    year = choose.randint(1200, 1999)
    text = (
        f"Much was said about it later, and all of it in the old town of {name} where it began. {name} had a mill. "
        f"The bridge over the river was built in {year} by people from {other}, who came on foot with what they had."
    )
    return f"d{number}", text


DOCUMENTS = [document(number) for number in range(120)]


def test_a_question_is_a_text_up_to_a_fact_among_others_of_its_shape():
    found = questions(DOCUMENTS, 1_000)
    texts = dict(DOCUMENTS)
    assert {question.kind for question in found} == {"name", "number"}
    for question in found:
        right = question.choices[question.answer]
        assert texts[question.document].count(f"{question.before} {right}") == 1
        assert right not in question.before
        assert len(set(question.choices)) == CHOICES
        assert len({shape(choice) for choice in question.choices}) == 1
        assert not any(choice in texts[question.document] for choice in question.choices if choice != right)
    places = [question.answer for question in found]
    assert max(places.count(place) for place in range(CHOICES)) < 0.35 * len(places)


def test_the_same_documents_in_any_order_give_the_same_questions_and_few_are_spread_over_many_documents():
    found = questions(DOCUMENTS, 40)
    assert questions(DOCUMENTS[::-1], 40) == found
    assert len(found) == len({question.document for question in found}) == 40
    every = questions(DOCUMENTS, 10_000)
    assert every[:40] == found
    assert max([q.document for q in every].count(d) for d, _ in DOCUMENTS) <= PER_DOCUMENT


def test_only_so_much_text_is_read(monkeypatch):
    monkeypatch.setattr(cloze, "SAMPLE", sum(len(text) for _, text in DOCUMENTS) // 4)
    found = {question.document for question in questions(iter(DOCUMENTS), 10_000)}
    assert 10 < len(found) < 40


@pytest.mark.parametrize(
    "documents", [[], [("a", "")], [DOCUMENTS[0]], [(f"x{n}", DOCUMENTS[0][1]) for n in range(50)]]
)
def test_where_there_is_nothing_to_choose_among_there_are_no_questions(documents):
    assert questions(documents, 100) == []
