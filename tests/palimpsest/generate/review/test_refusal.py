from __future__ import annotations

import pytest

from tests.palimpsest.generate.review.conftest import REPHRASE, SOURCE, review_of

REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I cannot fulfill your request to rewrite this document.",
    "I cannot provide a rewrite of this content as it contains explicit material.",
    "I can't help with that request. If you have another text, I would be glad to look at it.",
    "As an AI language model, I do not have opinions, and I cannot produce this article.",
    "I am unable to complete this task because the document is empty.",
    "Unfortunately, I am not able to rewrite the provided text.",
    "I apologize, but I don't have enough information to write a full article.",
    "It seems you haven't provided the document. Please paste the text you would like me to rewrite.",
    "I'd be happy to help! Please provide the document you would like me to rephrase.",
    "There is no document provided. Could you share the text so I can begin?",
    "**I cannot continue with this request.**",
    "Je suis désolé, mais je ne peux pas répondre à cette demande.",
    "Es tut mir leid, aber ich kann diesen Text nicht umschreiben.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "抱歉，我无法完成这个请求。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "Извините, но я не могу выполнить эту просьбу.",
    "",
    " \n\t\n",
    "<think>The user wants me to rewrite the document. The lighthouse was built in 1847, so",
]
CONTENT = [
    REPHRASE,
    "Chatbots often begin with the words \"I'm sorry, but I can't assist with that.\" Researchers call this a "
    "refusal and study how models decide when to say no, because a model that refuses too often is of little use.",
    "“I cannot help you with this request,” the clerk said, and closed the window. Oakley had waited all day.",
    "As an AI language model, GPT-4 cannot browse the web, and so its answers end with its training data.",
    "I can't help loving this town, for all its fog and its gulls and the smell of tar along the quay.",
    "I cannot write about my father without thinking of the sea. He kept the light for thirty years.",
    "I am unable to sleep when the wind is in the east, said Reed in his journal of 1903.",
    "Sorry seems to be the hardest word: a study of apologies in the letters of keepers and their wives.",
    "Unfortunately, the storm of 1903 destroyed the lower windows, and the lamp could not be lit for 11 nights.",
    "We regret that we cannot answer every letter. Visitors may write to the harbour office on Sundays.",
    "No document survives from the first years of the tower, and what is known comes from the harbour's accounts.",
    "Please provide your name and the date of your visit when you ask for a ticket to climb the tower.",
    "Q: Why can't I see the light by day?\nA: The lamp is lit at dusk. It has been automatic since 1971.",
    "Es tut mir in der Seele weh, das Licht erlöschen zu sehen, schrieb der Wärter im Winter 1903.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_no_answer_is_a_refusal(text):
    reviewed = review_of(text)
    assert "refusal" in reviewed.defects
    assert (reviewed.decision, reviewed.reason) == ("again", "refusal")


@pytest.mark.parametrize("text", CONTENT)
def test_content_is_no_refusal(text):
    assert "refusal" not in review_of(text).defects


def test_a_refusal_that_goes_on_to_do_the_work_is_an_answer():
    assert "refusal" not in review_of(f"I cannot vouch for the original text. {REPHRASE} {REPHRASE}").defects


def test_a_source_that_opens_like_a_refusal_is_retold():
    source = "I'm sorry, but I can't assist with that. So begins every letter the office sent in 1903. " + SOURCE
    assert (
        "refusal"
        not in review_of("I'm sorry, but I can't assist with that: so the office wrote.", source=source).defects
    )


@pytest.mark.parametrize("kind", ["self", "continuation"])
def test_a_sample_that_nobody_asked_for_in_words_cannot_refuse_but_must_say_something(kind):
    assert "refusal" not in review_of("I'm sorry, but I can't assist with that.", kind=kind, prompt=None).defects
    assert "refusal" in review_of("  ", kind=kind, prompt=None).defects
