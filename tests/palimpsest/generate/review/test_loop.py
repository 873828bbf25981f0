from __future__ import annotations

import pytest

from tests.palimpsest.generate.review.conftest import REPHRASE, SOURCE, review_of

LOOPS = {
    "a word": REPHRASE + " the" * 30,
    "a phrase, cut off": REPHRASE + " of the light of the keeper" * 4 + " of the",
    "a sentence": REPHRASE + " The light has been automatic since the year of the storm." * 3,
    "a paragraph": "\n\n".join([REPHRASE] * 3),
    "two sentences by turns": REPHRASE + " The lamp was lit at dusk. The keeper slept at dawn." * 4,
    "in the middle": "The tower is high and it is white and" * 8 + " " + REPHRASE,
    "list items": REPHRASE + "\n- The tower of the light at the point" * 6,
    "table rows": "| Year | Event |\n|---|---|\n" + "| 1847 | the tower was built at the point |\n" * 6,
    "characters": REPHRASE + " " + "a" * 200,
    "dots": REPHRASE + " . . ." * 60,
    "emoji": REPHRASE + "😂" * 150,
    "empty cells": REPHRASE + "\n|" + " |" * 100,
    "Chinese": "灯塔建于一八四七年。" + "看守人点燃了灯。" * 8,
    "Japanese": "灯台は岬に立っている。" + "そして夜が明けた。" * 8,
    "shuffled sentences": " ".join(
        f"{a} {b}"
        for _ in range(6)
        for a, b in [
            ("The lamp of the tower was lit by the keeper at dusk.", "Nobody in the harbour saw the boats come in."),
            ("Nobody in the harbour saw the boats come in.", "The oil was burned in the open for many nights."),
        ]
    ),
}
POEM = """The wind blew cold, the wind blew low,
    Row, brothers, row to the light on the hill;
The lamp was trimmed, the tide was slow,
    Row, brothers, row to the light on the hill.
The mail was late, the boats were few,
    Row, brothers, row to the light on the hill;
And what the keeper saw, he knew:
    Row, brothers, row to the light on the hill."""
CONTENT = {
    "prose": REPHRASE,
    "a poem with a refrain": POEM,
    "a song": "La la la la la, sang the boats, la la la la la. Ho ho ho, said the wind, ho ho ho.",
    "a table": "| Month | Open | Guide |\n|---|---|---|\n"
    + "\n".join(
        f"| {m} | yes | no |"
        for m in ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    ),
    "a list": "\n".join(f"- Step {i} of the stairs is {i * 17} centimetres above the rock" for i in range(1, 13)),
    "a litany": "\n".join(
        f"Blessed are the {w}: for they shall see the light." for w in ["meek", "poor", "pure", "kind"]
    ),
    "code": "".join(f"if (lamp == {i}) {{\n    lamp = {i + 1};\n}}\n" for i in range(3)),
    "numbers": "0 0 0 1 0 0 0 1 0 0 0 1 1 1",
    "a rule": f"{REPHRASE}\n\n" + "-" * 80,
    "said three times": "Holy, holy, holy! Row, row, row your boat, gently down the stream.",
    "questions": "\n\n".join(f"Q: What happened in {y}?\nA: In {y} the light was seen." for y in (1847, 1903, 1971)),
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_degenerate_repetition_is_a_loop(text):
    assert "loop" in review_of(text).defects


@pytest.mark.parametrize("text", CONTENT.values(), ids=CONTENT)
def test_what_people_repeat_is_no_loop(text):
    assert "loop" not in review_of(text).defects


def test_a_loop_of_the_sources_own_is_retold_and_another_is_not():
    chorus = "Row, brothers, row to the light on the hill tonight. " * 4
    assert "loop" not in review_of(f"They sang: {chorus}", source=f"{SOURCE} {chorus}").defects
    assert "loop" in review_of(REPHRASE + " of the light" * 9, source=f"{SOURCE} {chorus}").defects


def test_the_reason_shows_what_is_repeated():
    detail = review_of(REPHRASE + " of the light" * 9).details["loop"]
    assert "of the light" in detail
    assert "9 times" in detail
    assert "there it ends" in detail
