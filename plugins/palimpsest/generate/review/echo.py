"""Instructions of the prompt that stand in the answer: runs of eight of their words that the source does not have."""

from __future__ import annotations

from functools import lru_cache

from palimpsest.generate.review.facts import Facts, runs
from palimpsest.words import WORD

ECHO_WORDS = 8


def echo(text: Facts, source: Facts, prompt: str) -> str | None:
    """The first run of the prompt's own words in the text; lines that are the source's are not its own."""
    own = tuple(line for line in prompt.split("\n") if line.strip() and line not in source.text)
    if not own or len(text.words) < ECHO_WORDS:
        return None
    first, instructions = _runs(own)
    if first.isdisjoint(text.distinct_runs):
        return None
    for place, run in enumerate(runs(text.words, ECHO_WORDS)):
        if run in instructions:
            said = " ".join(text.words[place : place + ECHO_WORDS])
            if f" {said} " not in source.joined:
                return f"repeats the prompt: {said}"
    return None


@lru_cache(maxsize=1024)
def _runs(lines: tuple[str, ...]) -> tuple[frozenset[int], frozenset[int]]:
    """Runs of five and of eight words, across line breaks; the same for every document that a prompt is filled with."""
    words = WORD.findall("\n".join(lines).lower())
    return frozenset(runs(words)), frozenset(runs(words, ECHO_WORDS))
