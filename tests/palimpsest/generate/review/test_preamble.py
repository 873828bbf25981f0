from __future__ import annotations

import pytest

from palimpsest.generate.requests import Rendered
from tests.palimpsest.generate.review.conftest import REPHRASE, SOURCE, review_of

LEADS = [
    "Here is the rewritten article:\n\n",
    "Here's a rephrased version of the document in high-quality English:\n\n",
    "Here is the rephrased text: ",
    "Sure! Here's the article:\n\n",
    "Certainly! Below is a rewritten version of the text in the style of Wikipedia:\n\n",
    "Of course, I'd be happy to help you with that.\n\n",
    "Sure!\n\n",
    "**Here is the rewritten article:**\n\n",
    "Below is a tutorial based on the provided document:\n\n",
    "Here is a summary of the article:\n\n",
    "Here are the requested questions and answers:\n\n",
    "I have rewritten the document as an encyclopedic article:\n\n",
    "**Rephrased article:**\n\n",
    "## Rewritten Article:\n\n",
    "Rephrased Article (Wikipedia style): ",
    "assistant\n\n",
    "<|assistant|>\n",
    "<think>\nThe user wants an article about a lighthouse.\n</think>\n\n",
    "Voici la version réécrite de l'article :\n\n",
    "Hier ist der umgeschriebene Artikel:\n\n",
    "Aquí está el artículo reescrito:\n\n",
    "以下是改写后的文章：\n\n",
    "Вот переписанная статья:\n\n",
    "assistant\n\nSure! Here is the rewritten article:\n\n",
]
CLOSINGS = [
    "\n\nLet me know if you would like me to make any changes.",
    "\n\nI hope this rewritten version meets your expectations!",
    "\n\nNote: I have rewritten the text in an encyclopedic tone.",
    "\n\n---\n\n*Note: The original text was reorganized while its facts were preserved.*",
    "\n\nThis rephrased article maintains the facts of the original.",
    "\n\nIs there anything else I can help you with?",
]
CONTENT = [
    "Here is the recipe my grandmother used:\n\n1. Warm the milk.\n2. Stir in the flour.\n3. Bake for an hour.",
    "Here is how the tower was built: first came the rock, then the iron, and then 32 metres of granite.",
    "Here are the opening hours:\n\n- Sunday: 10 to 4\n- Monday: closed",
    "Here lies Thomas Reed, keeper of the light, who burned oil in the open for 11 nights.",
    "Below is the harbour, and beyond it the open sea: a view that 184 steps are a small price for.",
    "Of course, the storm of 1903 was not the first. Others had broken windows before it.",
    "Certainly the light could be seen from Harwick: the mail boats steered by it.",
    "Sure enough, the lamp was lit on the twelfth night.",
    "Okay, Manitoba is a small place north of Skerry.\n\nIt has a lighthouse too.",
    "Great!\n\nSo wrote the visitor of 1904 in the book at the foot of the stairs.",
    "The Revised Version of the Bible appeared in 1885: Oakley owned a copy.",
    "Revised Statutes\n\nThe Revised Statutes of the harbour govern the light.",
    "This is the story of a rewritten law, and of the keeper who broke it.",
    "Assistant keepers were hired in 1903.\n\nThey were paid by the month.",
    "An updated timetable follows.\n\nHere is the updated timetable:\n\nSunday 10:00",
    "Rationale\n\nThe tower had to be high, because the cliffs hide the light.",
]
ENDS = [
    "\n\nI hope this letter finds you well, wrote Reed, and signed it.",
    "\n\nNote: the tower is closed in January.",
    "\n\nLet me know, he said, when the boat is in.",
    "\n\nPlease note that dogs are not allowed on the 184 steps.",
    "\n\nIs there anything else you would like to say to the boats?",
    "\n\nIf you need help on the stairs, ask the warden.",
]


@pytest.mark.parametrize("lead", LEADS)
def test_a_lead_in_is_cut_and_reported(lead):
    reviewed = review_of(lead + REPHRASE)
    assert (reviewed.text, reviewed.defects, reviewed.decision) == (REPHRASE, ("preamble",), "keep")
    assert reviewed.details["preamble"]


@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_closing_remark_is_cut_and_reported(closing):
    reviewed = review_of(REPHRASE + closing)
    assert (reviewed.text, reviewed.defects) == (REPHRASE, ("preamble",))


@pytest.mark.parametrize("text", [REPHRASE, *CONTENT, *(REPHRASE + end for end in ENDS)])
def test_content_stays_as_it_is(text):
    reviewed = review_of(text)
    assert (reviewed.text, reviewed.defects) == (text, ())


def test_what_the_source_says_is_content():
    source = "Here is the rewritten article of 1903:\n\n" + SOURCE
    text = "Here is the rewritten article of 1903:\n\n" + REPHRASE
    assert review_of(text, source=source).text == text


@pytest.mark.parametrize("cue", ["Tables:", "Retelling, questions and answers:", "Latent thoughts:"])
def test_the_prompts_last_words_repeated_are_cut(cue):
    prompt = Rendered(messages=(("user", f"Document:\n{SOURCE}\n\nDo as you are told.\n\n{cue}\n"),))
    for lead in (f"{cue}\n\n", f"**{cue}** ", f"# {cue.upper()}\n"):
        reviewed = review_of(lead + REPHRASE, prompt=prompt)
        assert (reviewed.text, reviewed.defects) == (REPHRASE, ("preamble",))


def test_a_lead_in_without_a_text_is_not_cut_to_nothing():
    text = "Here is the rewritten article:"
    reviewed = review_of(text)
    assert reviewed.text == text


def test_a_study_may_keep_lead_ins_and_still_sees_them():
    text = LEADS[0] + REPHRASE
    reviewed = review_of(text, preamble="keep")
    assert (reviewed.text, reviewed.defects, reviewed.decision) == (text, ("preamble",), "keep")


def test_what_follows_a_lead_in_is_judged():
    reviewed = review_of("Sure! Here is the rewritten article:\n\nI'm sorry, but I cannot fulfill this request.")
    assert reviewed.defects == ("refusal", "preamble")
    assert reviewed.reason == "refusal"
