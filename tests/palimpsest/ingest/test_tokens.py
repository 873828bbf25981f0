"""Tokens and sentences are spaCy's, whatever is remembered of a chunk and whatever stands beside it."""

from __future__ import annotations

import itertools

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.ingest.tokens import BASE, Tokens

PIECES = """
harbour Harbour USA don't He'd cannot gonna e.g. U.K. a.m. 10a.m. 3-4 1,000.5 $5 5km °C. C++ x. id id. card): :) :( :/
8) (8) o.o O_O <3 ): ) ( : ; D / . .. ... … , ! ? ?! " ' '' “ ” — - _ * # @ { } [ ] = & http://a.example/b?c a_b a/b a.B
a:b (a), a's a’s 's ¿qué? यह है। これ。 ½ ™ 😀 IS_ALPHA FLAG23
"""
SPACES = [" ", "  ", "\n", " \n", "\t", "\u00a0", " \u00a0", "\u2028"]
texts = st.lists(
    st.tuples(
        st.lists(st.sampled_from(PIECES.split()) | st.text(max_size=3), min_size=1, max_size=3).map("".join),
        st.sampled_from([" "] * 8 + SPACES),
    ),
    min_size=1,
    max_size=12,
).map(lambda pairs: "".join(itertools.chain(*pairs)))


@pytest.fixture(scope="module")
def language():
    found = spacy.blank("en")
    found.add_pipe("sentencizer")
    return found


@pytest.fixture(scope="module")
def tokens():
    return Tokens()


def assert_as_spacy(tokens, language, text):
    expected = [token.text.strip() for token in language.tokenizer(text) if token.text.strip()]
    assert tokens.of(text).tolist() == [tokens.number(token) for token in expected]


@settings(max_examples=300)
@given(text=texts)
def test_tokens_are_spacys(tokens, language, text):
    assert_as_spacy(tokens, language, text)


@settings(max_examples=300)
@given(text=texts)
def test_sentences_are_spacys(tokens, language, text):
    line = text.strip()
    if line:
        assert tokens.sentences(line) == len(list(language(line).sents))


def test_an_exception_inside_a_chunk_gives_way_to_a_longer_one_that_goes_on_in_the_next(tokens, language):
    """'):' is one token of 'card):', but not where ':))' would begin in it."""
    alone, beside = "Pay by card): now", "Pay by card): )) now"
    for text in (alone, beside, alone):
        assert_as_spacy(tokens, language, text)
    assert tokens.number("):") in tokens.of(alone)
    assert tokens.number("):") not in tokens.of(beside)


def test_exceptions_are_spacys_alone_and_with_a_mark_behind(tokens, language):
    """As 'id.': spaCy takes the full stop off, knows 'id' as 'i' and 'd', and then 'd.' as one."""
    for exception, mark in itertools.product(filter(str.strip, language.tokenizer.rules), ["", *".,;:!?)'"]):
        assert_as_spacy(tokens, language, exception + mark)


def test_what_was_forgotten_is_learned_again(language):
    tokens = Tokens(remembered=3)
    for text in ("One two three four five.", "Six seven.", "One two three."):
        assert_as_spacy(tokens, language, text)
        numbers = tokens.of(text)
        known = tokens.known[numbers]
        assert known["length"].sum() == len("".join(text.split()))
        assert not known["letter"][-1] and not known["word"][-1] and known["word"][:-1].all()


def test_long_chunks_are_forgotten_sooner_than_short_ones(language):
    """Numbers begin anew when all is forgotten: 23 chunks of 1,000, each its own token, fit in 50,000."""
    tokens = Tokens(remembered=50_000)
    numbers = []
    for first in range(0x4E00, 0x4E00 + 60):
        text = chr(first) * 1_000
        assert_as_spacy(tokens, language, text)
        numbers += tokens.of(text).tolist()
    assert max(numbers) == 22 and numbers.count(0) >= 3


def test_the_hash_of_two_tokens_as_one_follows_from_theirs(tokens):
    numbers = [tokens.number(token) for token in ("harbourwall", "harbour", "wall")]
    both, first, second = tokens.known[numbers].tolist()
    assert both[1] == (first[1] * second[2] + second[1]) % (1 << 64)
    assert first[2] == pow(BASE, len("harbour"), 1 << 64)
