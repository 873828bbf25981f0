from __future__ import annotations

import pytest

from palimpsest.generate.review import faithfulness
from palimpsest.generate.review.facts import Facts
from tests.palimpsest.generate.review.conftest import REPHRASE, SOURCE, review_of

OTHER = (
    "Sourdough needs 500 grams of flour, 350 grams of water and a lively starter. Claire Dupont, who bakes in Lyon, "
    "lets the dough rest for 18 hours at 21 degrees before she shapes it. Her oven in the Rue Mercière is heated to "
    "250 degrees, and each loaf bakes for 40 minutes under a lid."
)


def score(text: str, source: str = SOURCE, *, covers: bool = True) -> float:
    return faithfulness(Facts(text), Facts(source), covers=covers)


def test_the_same_text_is_wholly_faithful_and_another_is_not():
    assert score(SOURCE) == 1
    assert score(REPHRASE) > 0.75
    assert score(OTHER) < 0.1
    assert score(OTHER, OTHER) == 1


def test_what_is_made_up_costs_more_than_what_is_left_out():
    short = SOURCE.split(" In the winter")[0]
    wrong = REPHRASE.translate(str.maketrans("1234567890", "5678901234"))
    renamed = REPHRASE.replace("Martha Oakley", "Jane Sutton").replace("Thomas Reed", "Peter Hale")
    assert score(REPHRASE) > score(renamed) > score(OTHER)
    assert score(REPHRASE) - score(wrong) > 0.25
    assert score(short) > score(f"{short} {OTHER}")


def test_a_swapped_number_is_seen():
    assert score(REPHRASE.replace("1847", "1874")) < score(REPHRASE)


def test_how_numbers_and_names_are_spelled_does_not_matter():
    source = "Harwick has 12,500 people and 1,250.50 tons of oil, said Anne-Marie O'Neill."
    for text in (source.replace(",5", "5").replace("1,250.50", "1250,5"), source.upper(), source.lower()):
        assert score(text, source) > 0.9, text


def test_small_numbers_are_as_often_written_out():
    assert Facts("He had 3 lamps, 11 nights and 0.5 tons; chapter 007.").numbers == {"11", "0.5"}


def test_a_sentence_does_not_make_its_first_word_a_name():
    text = (
        'Though late. However, Reed came.\nToday the Harwick boats… "Never," said Oakley. - Perhaps (Maybe) U.S. law.'
    )
    assert Facts(text).names == {"reed", "harwic", "oakley"}


def test_a_rationale_may_add_but_not_invent():
    background = "Light travels in straight lines, so a lamp 32 metres high is seen farther than one on the beach."
    assert score(background, covers=False) > score(background)
    assert review_of(background, kind="rationale").faithfulness == round(score(background, covers=False), 4)


def test_text_without_a_source_has_no_score():
    assert review_of(REPHRASE, kind="self", prompt=None).faithfulness is None
    assert review_of(REPHRASE, kind="augment", prompt=None).faithfulness is None


@pytest.mark.parametrize("text", ["", " ", "!!!", "12", "the of and"])
def test_a_text_that_says_nothing_is_not_faithful(text):
    assert score(text) == 0
    assert score(SOURCE, text) == 0


def test_scripts_without_spaces_are_compared_by_characters():
    source = "灯塔由工程师奥克利于1847年建成，塔高32米，灯光在十八海里外可见。看守人在暴风雨中燃油十一夜。"
    assert score("奥克利工程师在1847年建成这座32米高的灯塔，看守人在暴风雨里燃油十一夜。", source) > 0.5
    assert score("面包需要五百克面粉和三百五十克水，面团要静置一夜，然后放入烤箱烘烤四十分钟。", source) < 0.1
