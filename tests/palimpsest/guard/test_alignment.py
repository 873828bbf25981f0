from __future__ import annotations

import math

import numpy as np
import pytest

from palimpsest.guard.alignment import align, effective_number
from palimpsest.guard.measure import Reference


def made(count: int, seed: int, words: int = 900) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{int(n)}" for n in random.exponential(words / 3, 60) % words) for _ in range(count)]


def test_a_row_tells_like_from_unlike():
    real = Reference(made(300, 0))
    like = align(made(100, 1), real)
    template = [f"the answer to question {n} is as follows: it depends on w{n} and on w{n + 1}" for n in range(300)]
    unlike = align(template, real, nulls=like.distance)
    assert unlike.distance.auc_null == like.distance.auc_null and like.unjudged == unlike.unjudged == ""
    assert set(like.figures) == set(unlike.figures)
    assert like.figures["auc"] < 0.2 < unlike.figures["auc"]
    assert abs(like.figures["entropy_z"]) < 6 < -unlike.figures["entropy_z"]
    assert unlike.figures["self_bleu_ratio"] > 3 * like.figures["self_bleu_ratio"]
    assert like.figures["novelty_5"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("texts", [[], ["alone"], [" "], ["the same"] * 50])
def test_bad_input_gives_none_and_says_why(texts):
    found = align(texts, Reference(made(60, 0)))
    assert found.unjudged
    assert all(value is None or math.isfinite(value) for value in found.figures.values())
    empty = align(texts, Reference([]))
    assert empty.unjudged and empty.figures["auc"] is None


def test_a_copy_of_the_real_text_is_not_new():
    texts = made(60, 0)
    assert align(texts, Reference(texts)).figures["novelty_13"] == 0


def test_effective_number_counts_equal_shares_whole():
    assert effective_number({"a": 5, "b": 5, "c": 0}) == pytest.approx(2)
    assert effective_number({"a": 99, "b": 1}) == pytest.approx(1.06, abs=0.01)
    assert effective_number({}) == 0
