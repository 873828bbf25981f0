"""Questions about facts of a corpus: a text up to a name or a number, and what could stand there instead.

Fluency outlives facts when models learn from models (knowledge collapse, 2509.04796): a model may predict text well
and no longer know who and how many. The choices are of one shape (as many words or digits) and of similar frequency
in the corpus, so that the likeliest word in general answers no better than chance; none of the wrong ones stands in
the document, and the right one not before the gap, so that nothing can be copied.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CHOICES = 4
NEAR = 12
"""Neighbours in frequency, on either side, that wrong choices are drawn from."""
CONTEXT = 400
"""Characters before the gap, at most."""
WORDS = 8
"""Words before the gap, at least."""
PER_DOCUMENT = 4
SAMPLE = 4_000_000
"""Characters of documents that choices are collected from, and questions made of."""
FACT = re.compile(
    r"(?<=[^\W\d_] )(?P<name>[^\W\d_a-z][^\W\d_A-Z]{2,}(?: [^\W\d_a-z][^\W\d_A-Z]{2,}){0,2})(?!\w)"
    r"|(?<![\w.,])(?P<number>\d{2,}(?:[.,]\d+)*)(?![\w]|[.,]\d)"
)
"""A name: one to three words with a capital, behind a word and so inside a sentence. Numbers of two digits on."""


@dataclass(frozen=True)
class Question:
    document: str
    kind: str
    """name or number."""
    before: str
    """The document up to the gap."""
    choices: tuple[str, ...]
    answer: int
    """Index of the right choice."""


def questions(documents: Iterable[tuple[str, str]], count: int) -> list[Question]:
    """So many questions of (id, text) documents, or as many as there are: the same for the same documents in any order.

    Of a stream of documents those are kept that come first by a hash of their ids, up to `SAMPLE` characters.
    """
    chosen = _first(documents)
    facts = {document: _facts(text) for document, text in chosen}
    ranked = _ranked(facts.values())
    found: list[Question] = []
    for number in range(PER_DOCUMENT):  # first one of each document, then second ones: as many documents as there are
        for document, text in chosen:
            if len(found) >= count:
                return found
            made = _made(document, text, facts[document], ranked)
            found += made[number : number + 1]
    return found


def _first(documents: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    heap: list[tuple[int, str, str]] = []  # the last one by hash on top
    held = 0
    for document, text in documents:
        heapq.heappush(heap, (-int.from_bytes(_hash(document)), document, text))
        held += len(text)
        while held > SAMPLE and len(heap) > 1:
            held -= len(heapq.heappop(heap)[2])
    return [(document, text) for _, document, text in sorted(heap, reverse=True)]


def _facts(text: str) -> list[tuple[str, int]]:
    """What stands in a text, each at its first place, and where."""
    first: dict[str, int] = {}
    for match in FACT.finditer(text):
        first.setdefault(match.group(), match.start())
    return list(first.items())


def shape(fact: str) -> tuple[str, int]:
    """What wrong choices must have in common with the right one."""
    if fact[0].isdigit():
        return re.sub(r"\d", "0", fact), 0
    return "name", fact.count(" ")


def _ranked(facts: Iterable[list[tuple[str, int]]]) -> Mapping[tuple[str, int], list[str]]:
    """By shape, the facts in the order of the number of documents that have them."""
    counts = Counter(fact for own in facts for fact, _ in own)
    shapes = defaultdict(list)
    for fact in sorted(counts, key=lambda fact: (counts[fact], _hash(fact))):
        shapes[shape(fact)].append(fact)
    return shapes


def _made(document: str, text: str, facts: list[tuple[str, int]], ranked: Mapping) -> list[Question]:
    made = []
    places = {own: {fact: place for place, fact in enumerate(ranked[own])} for own in {shape(f) for f, _ in facts}}
    for fact, start in sorted(facts, key=lambda found: _hash(document + found[0])):
        before = text[max(0, start - CONTEXT) : start].rstrip()
        if start > CONTEXT:
            before = before.partition(" ")[2]  # not from the middle of a word
        if len(before.split()) < WORDS or fact in text[:start]:
            continue
        own = ranked[shape(fact)]
        at = places[shape(fact)][fact]
        near = [other for other in own[max(0, at - NEAR) : at + NEAR + 1] if other != fact and other not in text]
        wrong = sorted(near, key=lambda other: _hash(document + fact + other))[: CHOICES - 1]
        if len(wrong) < CHOICES - 1:
            continue
        choices = sorted([fact, *wrong], key=lambda choice: _hash(document + choice))
        kind = "number" if fact[0].isdigit() else "name"
        made.append(Question(document, kind, before, tuple(choices), choices.index(fact)))
        if len(made) == PER_DOCUMENT:
            break
    return made


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
