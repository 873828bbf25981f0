"""Whatever a model says, the review answers, and says of every character it takes away that it did."""

from __future__ import annotations

import random
import re

import pytest

from palimpsest.config import Review
from palimpsest.generate.requests import Rendered
from palimpsest.generate.review import DEFECTS, Part, Reviewer, review_generation
from palimpsest.generate.review.benchmark import Benchmarks
from tests.palimpsest.generate.review.conftest import PROMPT, REPHRASE, SOURCE
from tests.palimpsest.generate.review.test_preamble import CLOSINGS, LEADS

PIECES = [
    REPHRASE,
    SOURCE,
    *LEADS,
    *CLOSINGS,
    *("```", "\n```\n", "```markdown\n", "~~~", '"', "“", "”", "«", "<article>", "</article>", "<think>", "</think>"),
    *("\n", "\r\n", "\t", " ", "\u00a0", "\u2028", "\ufeff", "\u200b", "\x00", "\x07", "\x1b[0m", "\x85"),
    *(
        "\ud800",
        "\udfff",
        "👩‍👩‍👧",
        "İ",
        "ß",
        "ﬁ",
        "e\u0301",
        "a" * 300,
        "日本語の文。",
        "ภาษาไทย",
        "العربية ١٢٣",
        "½Ⅷ²",
        "𝟙𝟚",
    ),
    *("I'm sorry, but I can't", "keeper@skerry.example", "1.2.3.4", "::1", "+44 1632 960571", "12,345.67", "." * 200),
    *("| a | b |\n", "{}", "{{document}}", "\\", "%s", "the the the the the the the"),
]


def texts() -> list[str]:
    chance = random.Random(3)
    found = ["".join(chance.choices(PIECES, k=chance.randint(0, 12))) for _ in range(400)]
    found += ["".join(map(chr, chance.choices(range(0x3000), k=200))) for _ in range(50)]
    return found


@pytest.mark.parametrize("kind", ["rephrase", "rationale", "continuation", "self", "augment"])
def test_no_text_makes_it_fail_or_loses_a_character_unreported(kind):
    reviewer = Reviewer(kind)
    found = texts()
    for text, source in zip(found, reversed(found), strict=True):
        reviewed = review_generation([Part(text, PROMPT, "length")], document=source, reviewer=reviewer)
        assert reviewed.decision in ("keep", "drop", "again")
        assert (reviewed.reason is None) == (reviewed.decision == "keep")
        assert set(reviewed.details) == set(reviewed.defects) <= set(DEFECTS)
        assert all(0 < len(detail) <= 200 for detail in reviewed.details.values())
        assert reviewed.text in text, "only what stands around a text is cut"
        assert reviewed.text == text or {"preamble", "markdown"} & set(reviewed.defects)
        assert reviewed.text.strip() or not text.strip(), "nothing is cut down to nothing"
        assert reviewed.faithfulness is None or 0 <= reviewed.faithfulness <= 1
        again = review_generation([Part(text, PROMPT, "length")], document=source, reviewer=reviewer)
        assert again == reviewed


def test_a_study_that_keeps_everything_gets_every_text_as_it_came():
    review = Review.model_validate(dict.fromkeys(DEFECTS, "keep"))
    for text in texts():
        reviewed = review_generation([Part(text)], document=SOURCE, reviewer=Reviewer("rephrase", review))
        assert (reviewed.decision, reviewed.text) == ("keep", text)


def test_what_was_repaired_needs_no_repair():
    for lead in LEADS:
        for closing in CLOSINGS:
            parts = [Part(f"{lead}{REPHRASE}{closing}", PROMPT)]
            once = review_generation(parts, document=SOURCE, reviewer=Reviewer("rephrase"))
            twice = review_generation([Part(once.text, PROMPT)], document=SOURCE, reviewer=Reviewer("rephrase"))
            assert (once.text, twice.text, twice.defects) == (REPHRASE, REPHRASE, ())


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200_000,
        "x" * 1_000_000,
        "1" * 100_000 + ".1" * 50_000,
        "(" * 100_000,
        "```\n" * 50_000,
        '"' * 100_000,
        "a@" * 100_000,
        "\n" * 200_000,
        "Sure! Here is " * 20_000,
        " ".join(map(str, range(100_000))),
        "<think>" * 20_000,
        "日" * 200_000,
    ],
    ids=lambda text: re.sub(r"\s", " ", text[:12]),
)
def test_a_huge_text_takes_seconds_not_hours(text):
    review_generation(
        [Part(text, Rendered(text=text[:50_000]))],
        document=text[::-1],
        reviewer=Reviewer("rephrase", benchmarks=Benchmarks(())),
    )
