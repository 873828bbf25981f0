from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from palimpsest import tokenizer as tok
from palimpsest.lake import LakeError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tok.train(["the tide rises and the tide falls twice a day", "brød og smør æøå"] * 3, 400).save(str(file))
    return tok.load(file)


@given(text=st.text(max_size=200), parts=st.integers(1, 40))
def test_slices_join_to_the_text(tokenizer, text, parts):
    assert "".join(tok.slices(tokenizer, text, parts)) == text


def test_slices_have_nearly_equal_token_counts(tokenizer):
    text = "the tide rises and the tide falls twice a day " * 20
    tokens = len(tokenizer.encode(text).ids)
    sizes = tok.count(tokenizer, tok.slices(tokenizer, text, 7))
    assert sum(sizes) == tokens
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@given(text=st.text(max_size=200))
def test_every_text_survives_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_literal_boundary_mark_in_a_text_is_not_a_boundary(tokenizer):
    assert tokenizer.token_to_id(tok.BOUNDARY) == 0
    assert 0 not in tokenizer.encode(f"before {tok.BOUNDARY} after").ids


def test_training_again_gives_the_same_tokenizer():
    texts = [f"word{n % 17} and word{n % 5} meet at noon" for n in range(200)]
    assert tok.train(texts, 400).to_str() == tok.train(texts, 400).to_str()


def test_a_tokenizer_without_boundary_is_refused_by_name(tmp_path):
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(LakeError, match=r"tokenizer\.json: has no <\|endoftext\|>"):
        tok.load(tmp_path / "tokenizer.json")


def test_truncation_and_padding_of_a_foreign_tokenizer_are_switched_off(tokenizer, tmp_path):
    foreign = Tokenizer.from_str(tokenizer.to_str())
    foreign.enable_truncation(4)
    foreign.enable_padding(length=16)
    foreign.save(str(tmp_path / "tokenizer.json"))
    texts = ["the tide rises and the tide falls twice a day", "the"]
    assert tok.count(tok.load(tmp_path / "tokenizer.json"), texts) == tok.count(tokenizer, texts)
