from __future__ import annotations

import pytest

from palimpsest.config import Review
from palimpsest.generate.review import DEFECTS, Part, Reviewer, decide, review_generation
from tests.palimpsest.generate.review.conftest import PROMPT, REPHRASE, SOURCE, review_of

REFUSAL = "I'm sorry, but I can't assist with that."


def test_the_names_are_the_fields_of_the_study():
    assert DEFECTS == (
        "refusal",
        "preamble",
        "markdown",
        "prompt_echo",
        "near_copy",
        "loop",
        "truncated",
        "language",
        "benchmark",
        "pii",
    )


@pytest.mark.parametrize(
    ("defects", "settings", "attempt", "expected"),
    [
        ([], {}, 0, ("keep", None)),
        (["truncated", "near_copy", "preamble"], {}, 0, ("keep", None)),
        (["refusal"], {}, 0, ("again", "refusal")),
        (["refusal"], {}, 1, ("again", "refusal")),
        (["refusal"], {}, 2, ("drop", "refusal")),
        (["refusal"], {"attempts": 0}, 0, ("drop", "refusal")),
        (["loop", "pii"], {}, 0, ("drop", "pii")),
        (["loop", "refusal"], {}, 0, ("again", "refusal")),
        (["preamble"], {"preamble": "again"}, 0, ("again", "preamble")),
        (["pii", "benchmark"], {"pii": "keep", "benchmark": "keep"}, 0, ("keep", None)),
        (["truncated"], {"truncated": "drop"}, 0, ("drop", "truncated")),
    ],
)
def test_drop_wins_over_again_and_again_over_keep(defects, settings, attempt, expected):
    assert decide(defects, Review.model_validate(settings), attempt) == expected


def test_what_would_only_be_said_again_is_not_asked_for():
    assert decide(["refusal"], Review(), 0, repeatable=False) == ("drop", "refusal")
    assert review_of(REFUSAL).decision == "again"
    part = Part(REFUSAL, PROMPT)
    for reviewer in (Reviewer("rephrase", repeatable=False), Reviewer("rephrase", Review(attempts=0))):
        assert review_generation([part], document=SOURCE, reviewer=reviewer).decision == "drop"
    assert review_generation([part], document=SOURCE, reviewer=Reviewer("rephrase"), final=True).decision == "drop"


def test_every_defect_is_named_whatever_decides():
    reviewed = review_of(REFUSAL + " Write to keeper@skerry.example.")
    assert reviewed.defects == ("refusal", "pii")
    assert (reviewed.decision, reviewed.reason, reviewed.detail) == ("drop", "pii", "email ×1")


def test_only_the_defective_part_of_a_long_document_is_asked_for_again():
    parts = [Part(REPHRASE, PROMPT, "stop", 1), Part(REFUSAL, PROMPT, "stop", 1), Part(REPHRASE, PROMPT, "length")]
    reviewed = review_generation(parts, document=SOURCE, reviewer=Reviewer("rephrase"))
    assert (reviewed.decision, reviewed.reason, reviewed.again) == ("again", "refusal", (1,))
    assert reviewed.defects == ("refusal", "truncated")
    assert reviewed.detail.startswith("part 1: ")
    assert reviewed.details["truncated"].startswith("part 2: ")
    later = [parts[0], Part(REFUSAL, PROMPT, "stop", 2), parts[2]]
    assert review_generation(later, document=SOURCE, reviewer=Reviewer("rephrase")).decision == "drop"


def test_each_part_loses_its_own_lead_in_and_the_parts_are_judged_together():
    words = SOURCE.split(". ")
    parts = [Part(f"Here is the rewritten text:\n\n{'. '.join(half)}") for half in (words[:3], words[3:])]
    reviewed = review_generation(parts, document=SOURCE, reviewer=Reviewer("rephrase"))
    assert reviewed.text == f"{'. '.join(words[:3])}\n\n{'. '.join(words[3:])}"
    assert reviewed.defects == ("preamble", "near_copy")
    assert reviewed.decision == "keep"


def test_parts_that_say_the_same_are_a_loop_together():
    parts = [Part(REPHRASE) for _ in range(4)]
    reviewed = review_generation(parts, document=SOURCE, reviewer=Reviewer("rephrase"))
    assert (reviewed.decision, reviewed.reason, reviewed.again) == ("again", "loop", (0, 1, 2, 3))


def test_near_copies_and_cut_off_texts_are_marked_and_kept():
    reviewed = review_generation([Part(SOURCE, None, "length")], document=SOURCE, reviewer=Reviewer("rephrase"))
    assert (reviewed.decision, reviewed.defects, reviewed.text) == ("keep", ("near_copy", "truncated"), SOURCE)


def test_text_cut_from_its_source_is_not_reviewed():
    assert review_of(SOURCE, kind="augment").defects == ()
