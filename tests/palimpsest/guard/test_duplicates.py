from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from palimpsest.guard.duplicates import Duplicates, Quotes, Real, Shingles, jaccard
from palimpsest.guard.judge import judge_duplicates, judge_quotes
from palimpsest.guard.thresholds import DEFAULTS


def made(count: int, seed: int, words: int = 120) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"Word{n}" for n in random.integers(0, 5_000, words)) + "." for _ in range(count)]


def edited(text: str, places: int, seed: int) -> str:
    words = text.split()
    for place in np.random.default_rng(seed).permutation(len(words))[:places]:
        words[place] = "edited"
    return " ".join(words)


def test_hashed_shingles_have_the_jaccard_of_the_words():
    [text] = made(1, 0)
    ours = Shingles()
    for places in (0, 1, 4, 30):
        other = edited(text, places, places).upper()
        mine, theirs = (
            set(zip(*(found.lower().strip(".").split()[i:] for i in range(5)), strict=False)) for found in (text, other)
        )
        exact = len(mine & theirs) / len(mine | theirs)
        assert jaccard(ours.of(text), ours.of(other)) == pytest.approx(exact)


def test_near_duplicates_are_those_that_every_pair_says():
    base = made(60, 1)
    texts = base + [edited(text, place % 9, place) for place, text in enumerate(base[:40])]
    ours = Shingles()
    near = {b for a, b in combinations(range(len(texts)), 2) if jaccard(ours.of(texts[a]), ours.of(texts[b])) >= 0.75}
    found = Duplicates(Real())
    found.add(texts[:50])
    found.add(texts[50:])
    assert found.documents == 100 and 5 < len(near) < 40
    assert found.repeated == len(near)


def test_copies_of_real_documents_are_counted_apart():
    real, texts = Real(), made(50, 2)
    real.add(texts)
    found = Duplicates(real)
    found.add([*made(48, 3), edited(texts[0], 1, 0), edited(texts[1], 60, 0), "", "..."])
    assert (found.documents, found.repeated, found.copied, found.known) == (50, 0, 1, 50)
    own, of_real = judge_duplicates(found, DEFAULTS, "texts")
    assert (own.outcome, of_real.outcome, of_real.value) == ("passed", "passed", 0.02)
    assert own.sentence == "0% of texts nearly equal an earlier one; at most 5% is allowed"


def test_all_equal_documents_fail_and_few_are_not_judged():
    found = Duplicates(Real())
    found.add(["the same text over and over again"] * 40)
    assert found.repeated == 39
    assert [v.outcome for v in judge_duplicates(found, DEFAULTS, "texts")] == ["failed", "not_judged"]
    few = Duplicates(Real())
    few.add(["a"])
    assert {v.outcome for v in judge_duplicates(few, DEFAULTS, "texts")} == {"not_judged"}


def test_a_quote_of_thirteen_words_fails_and_is_shown():
    held_out = ["One two three four five six seven eight nine ten eleven twelve thirteen fourteen."]
    quotes = Quotes(held_out)
    quotes.add("so: ONE two three four five six seven eight nine ten, eleven twelve and thirteen")
    assert judge_quotes(quotes, DEFAULTS, "texts").outcome == "passed"
    quotes.add("so: two three four five six seven eight nine ten, eleven twelve thirteen fourteen")
    verdict = judge_quotes(quotes, DEFAULTS, "texts")
    assert (verdict.outcome, verdict.value) == ("failed", 1)
    assert "1 of 2 texts share 13 words in a row" in verdict.sentence and "'two three four" in verdict.sentence
    assert judge_quotes(Quotes([]), DEFAULTS, "texts").sentence.endswith("no held-out text was given")
    assert judge_quotes(Quotes(held_out), DEFAULTS, "texts").sentence.endswith("there is no document")
