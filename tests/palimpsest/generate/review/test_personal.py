from __future__ import annotations

import pytest

from palimpsest.generate.review import Part, Reviewer, dropped, review_generation
from tests.palimpsest.generate.review.conftest import REPHRASE, SOURCE, review_of


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Write to keeper@skerry-point.example for a ticket.", "email ×1"),
        ("Call (207) 555-0143 or 207-555-0144.", "phone ×2"),
        ("Call +44 1632 960571; the server is 203.0.113.7.", "ip ×1, phone ×1"),
        ("Its address is 2001:db8:85a3::8a2e:370:7334.", "ip ×1"),
    ],
)
def test_what_the_source_does_not_hold_is_a_defect_and_never_quoted(text, kinds):
    reviewed = review_of(f"{REPHRASE} {text}")
    assert reviewed.details["pii"] == kinds
    assert (reviewed.decision, reviewed.reason) == ("drop", "pii")


def test_what_the_source_holds_may_be_repeated_in_another_spelling():
    source = f"{SOURCE} Write to Keeper@Skerry-Point.example or call (207) 555-0143."
    assert "pii" not in review_of("Write to keeper@skerry-point.example, call 207-555-0143.", source=source).defects
    assert "pii" in review_of("Write to reed@skerry-point.example, call 207-555-0144.", source=source).defects


def test_a_placeholder_filled_in_is_made_up():
    assert "pii" in review_of("Write to keeper@skerry.example.", source=f"{SOURCE} Write to <EMAIL>.").defects
    assert "pii" not in review_of("Write to <EMAIL>.", source=f"{SOURCE} Write to <EMAIL>.").defects


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4 of 192.168.0.1",
        "on 10.11.1903 at 12:30:45",
        "184 steps, 32 m, 1847-1971",
        "std::vector a::b",
        "@keeper",
    ],
)
def test_numbers_that_lead_to_nobody_are_none(text):
    assert "pii" not in review_of(f"{REPHRASE} {text}").defects


def test_a_drop_is_written_without_the_values():
    reviewer = Reviewer("rephrase")
    reviewed = review_generation([Part("Ask keeper@skerry.example.")], document=SOURCE, reviewer=reviewer)
    planned = dict.fromkeys(("generation_id", "document_id", "url", "strategy", "kind"), "x") | {
        "g": 0,
        "attempt": 0,
        "parts": 1,
    }
    row = dropped(planned, reviewed)
    assert (row["reason"], row["detail"], row["defects"], row["text"]) == ("pii", "email ×1", ["pii"], "Ask <EMAIL>.")
