from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest import tokenizer as tok
from palimpsest.generate import chunks

PIECES = [
    "The tide rises twice a day. ",
    "No! ",
    "“Really?” ",
    "word ",
    "supercalifragilistic",
    "\n\n",
    "日本語の文。",
    "👩‍👩‍👧",
    "e\u0301",
    " ",
    "{x}",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=60).map("".join)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Small enough that an emoji is many tokens."""
    return tok.train([piece for piece in PIECES if piece.isascii()] * 3, 300)


@pytest.fixture(scope="module")
def starts(tokenizer):
    return lambda text: chunks.token_starts(tokenizer.encode(text, add_special_tokens=False).offsets)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.integers(0, 30))
def test_chunks_join_to_the_document_and_fit(starts, text, size, lead):
    tokens = starts(text)
    views = chunks.chunks(text, tokens, size=size, lead=lead)
    assert "".join(text[v.start : v.end] for v in views) == text
    assert [v.end for v in views[:-1]] == [v.start for v in views[1:]]
    for view in views:
        character = len(text[view.start : view.end]) == 1  # of more tokens than a chunk has: it stays whole
        assert chunks.tokens_between(tokens, view.start, view.end) <= size or character
        assert chunks.tokens_between(tokens, view.before, view.start) <= lead
        assert view.before <= view.start < view.end or not text


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.integers(0, 30))
def test_only_a_chunk_that_is_cut_inside_a_sentence_is_marked(starts, text, size, lead):
    ends = {0, *chunks.sentence_ends(text)}
    for view in chunks.chunks(text, starts(text), size=size, lead=lead):
        assert view.truncated == (not {view.start, view.end} <= ends)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.data())
def test_a_window_keeps_what_is_nearest_to_the_split_point(starts, text, size, data):
    tokens = starts(text)
    at = data.draw(st.sampled_from([0, *tokens, len(text)]))
    view = chunks.around(text, tokens, at, size=size)
    assert view.start == at and view.before <= at <= view.end
    assert view.truncated == ((view.before, view.end) != (0, len(text)))
    assert view.truncated or len(tokens) <= size
    assert chunks.tokens_between(tokens, view.before, view.end) <= max(size, 1)
    if len(tokens) <= size:
        assert not view.truncated


@settings(deadline=None)
@given(TEXTS, st.floats(0.01, 0.99))
def test_a_beginning_is_some_of_the_text_and_ends_before_white_space(text, share):
    at = chunks.beginning(text, share)
    assert 0 <= at <= len(text)
    assert at or not text
    if text.strip() and not text[0].isspace():
        assert text[:at].strip()


def test_chunks_are_of_nearly_the_same_length_and_end_with_sentences(starts):
    text = " ".join(f"This is sentence number {n} of a long document." for n in range(100))
    tokens = starts(text)
    views = chunks.chunks(text, tokens, size=len(tokens) // 3, lead=10**9)
    sizes = [chunks.tokens_between(tokens, v.start, v.end) for v in views]
    assert len(views) == 4 and max(sizes) < 1.2 * min(sizes)
    assert all(text[v.start : v.end].rstrip().endswith("document.") for v in views)
    assert all(v.before == 0 and not v.truncated for v in views)


def test_a_chunk_sees_what_of_the_original_precedes_it_from_a_sentence_on(starts):
    text = " ".join(f"This is sentence number {n} of a long document." for n in range(100))
    tokens = starts(text)
    views = chunks.chunks(text, tokens, size=200, lead=100)
    for view in views[1:]:
        assert text[view.before : view.start].startswith("This is")
        assert not view.truncated, "every sentence is asked for; only the context before it is bounded"
        assert 60 < chunks.tokens_between(tokens, view.before, view.start) <= 100


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two three.", "One. "),
        ('He said "no." Then left.', 'He said "no." '),
        ("日本。語。", "日本。"),
        ("a\n\nb", "a\n\n"),
        ("1.5 is e.g", "1.5 is e.g"),
    ],
)
def test_sentences_end_where_a_reader_says_so(text, first):
    assert text[: chunks.sentence_ends(text)[0]] == first


def test_hostile_text_is_cut_in_no_time(starts):
    for text in ("." * 200_000, "\n" * 200_000, '."' * 100_000, "a" * 100_000, ". " * 100_000):
        views = chunks.chunks(text, list(range(0, len(text), 3)), size=500, lead=100)
        assert sum(v.end - v.start for v in views) == len(text)
        assert list(itertools.pairwise(views))
