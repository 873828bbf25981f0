from __future__ import annotations

import pytest

from palimpsest.config import Strategy
from palimpsest.generate.prompts import load_prompt, shipped
from palimpsest.generate.requests import Rendered
from tests.palimpsest.generate.review.conftest import PROMPT, REPHRASE, SOURCE, review_of


def test_instructions_in_the_answer_are_an_echo():
    reviewed = review_of(f"{REPHRASE}\n\nWrite a full article of the same content in high-quality prose.")
    assert reviewed.defects == ("prompt_echo",)
    assert "write a full article of the same content" in reviewed.details["prompt_echo"]


def test_the_system_message_counts_too():
    assert (
        "prompt_echo"
        in review_of("You write text that a program takes as it is, without a remark. " + REPHRASE).defects
    )


def test_words_of_the_document_are_no_echo():
    assert "prompt_echo" not in review_of(SOURCE[:200] + REPHRASE).defects


def test_a_source_about_prompts_may_be_retold():
    source = "A prompt is a wish. Say: write a full article of the same content in high-quality prose. It will be done."
    prompt = Rendered(messages=(("user", f"Document:\n{source}\n\n{PROMPT.messages[1][1]}"),))
    text = "They say: write a full article of the same content in high-quality prose."
    assert "prompt_echo" not in review_of(text, source=source, prompt=prompt).defects


def test_seven_words_are_a_turn_of_phrase():
    assert review_of(REPHRASE + " Write a full article of the same.").defects == ()


def test_recordings_have_no_prompt_to_repeat():
    assert review_of("You write text that a program takes as it is, without a remark.", prompt=None).defects == ()


def _filled(name: str) -> tuple[str, Rendered]:
    kind = name.split("/")[0]
    slots = {"rephrase": {"document": SOURCE}, "rationale": {"prefix": SOURCE[:150], "suffix": SOURCE[150:]}}[kind]
    engine = {"kind": "vllm", "server": "s"}
    strategy = Strategy.model_validate({"kind": kind, "generations": 1, "engine": engine, "prompt": name})
    return kind, load_prompt(strategy).render(**slots)


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith(("rephrase", "rationale"))])
def test_shipped_prompts_are_recognised_and_a_clean_answer_to_them_is_clean(name):
    kind, prompt = _filled(name)
    assert review_of(REPHRASE, kind=kind, prompt=prompt).defects == ()
    instructions = prompt.messages[1][1].replace(SOURCE, "").replace(SOURCE[:150], "").replace(SOURCE[150:], "")
    assert "prompt_echo" in review_of(instructions, kind=kind, prompt=prompt).defects
    cue = prompt.messages[1][1].strip().splitlines()[-1]
    reviewed = review_of(f"{cue}\n{REPHRASE}", kind=kind, prompt=prompt)
    assert (reviewed.text, reviewed.defects) == (REPHRASE, ("preamble",))
