from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from palimpsest.guard.diversity import Blocks, figures, split_nulls
from palimpsest.guard.judge import judge, judge_diversity
from palimpsest.guard.measure import Reference, Sample, watch
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.tokens import Vocabulary


def made(count: int, words: int, seed: int = 0, length: int = 120) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{n}" for n in random.zipf(1.3, length) % words) for _ in range(count)]


def test_figures_by_hand():
    vocabulary = Vocabulary()
    texts = ["a b a b", "a b c"]
    found = figures(texts, [vocabulary.encode(text) for text in texts])
    shares = (3 / 7, 3 / 7, 1 / 7)
    assert found["entropy"] == pytest.approx(-sum(p * math.log2(p) for p in shares))
    assert found["distinct_1"] == pytest.approx(3 / 7)
    assert found["distinct_2"] == pytest.approx(3 / 5)  # ab ba ab | ab bc
    assert found["distinct_3"] == pytest.approx(3 / 3)  # aba bab | abc
    assert found["compression"] == 13 / len(zlib.compress(b"a b a b\na b c", 6))


def test_blocks_are_of_equal_size_however_the_stream_is_cut():
    vocabulary, texts = Vocabulary(), made(40, 500)
    flat = np.concatenate([vocabulary.encode(text) for text in texts])
    blocks = Blocks(1_000)
    for text in texts:
        blocks.add(text, vocabulary.encode(text))
    assert len(blocks.found) == len(flat) // 1_000
    for place, found in enumerate(blocks.found):
        part = flat[1_000 * place : 1_000 * (place + 1)]
        assert found["distinct_1"] == pytest.approx(len(np.unique(part)) / 1_000)
    whole = Blocks(600)
    whole.add(" ".join(texts), flat[:2_000])
    assert len(whole.found) == 3 and whole.means["compression"] > 1


def test_a_stream_shorter_than_a_block_is_one_of_its_own_size():
    vocabulary, blocks = Vocabulary(), Blocks(150_000)
    for text in made(30, 500):
        blocks.add(text, vocabulary.encode(text))
    blocks.close()
    assert blocks.tokens == 3_600 and len(blocks.found) == 1
    tiny = Blocks(150_000)
    tiny.add("a b", vocabulary.encode("a b"))
    tiny.close()
    assert tiny.means == {}


def test_real_text_lies_within_its_own_null_and_repetition_far_below():
    real = Reference(made(400, 4_000))
    like = judge_diversity(watch(made(200, 4_000, seed=1), real), DEFAULTS, "texts")
    assert {verdict.outcome for verdict in like} == {"passed"}
    poor = judge_diversity(watch(made(200, 40, seed=1), real), DEFAULTS, "texts")
    assert [(v.measure, v.outcome) for v in poor] == [
        ("entropy", "failed"), ("compression", "warned"), ("distinct_3", "warned"),
    ]  # fmt: skip
    assert "deviations below real text" in poor[0].sentence


@pytest.mark.parametrize(
    ("synthetic", "real", "why"),
    [
        ([], made(200, 400), "0 tokens are too few"),
        (["one"], made(200, 400), "1 tokens are too few"),
        (made(100, 400), made(1, 400), "8 splits of"),
        (made(100, 400), ["the same words again " * 100] * 100, "do not vary"),
        (made(100, 400), [], "8 splits of"),
    ],
)
def test_every_gate_has_a_verdict_on_bad_input(synthetic, real, why):
    verdicts = judge(watch(synthetic, Reference(real)), DEFAULTS, "texts")
    assert [v.gate for v in verdicts] == ["G8", "G9", "G9", "G9", "G10", "G10", "G10"]
    diversity = [verdict for verdict in verdicts if verdict.gate == "G9"]
    assert {verdict.outcome for verdict in diversity} == {"not_judged"}
    assert all(why in verdict.sentence for verdict in diversity), diversity[0].sentence
    assert all(verdict.value is None or math.isfinite(verdict.value) for verdict in verdicts)


def test_splits_need_enough_real_text():
    vocabulary, texts = Vocabulary(), made(20, 400)
    documents = [vocabulary.encode(text) for text in texts]
    assert split_nulls(texts, documents, 1_200)["entropy"].sd > 0
    with pytest.raises(ValueError, match="2,600 tokens"):
        split_nulls(texts, documents, 1_300)


def test_a_sample_of_a_stream_is_bounded_and_in_order():
    sample = Sample(500, 0)
    for number in range(1_000):
        sample.add(str(number), np.full(10, number, np.int32))
    texts, documents = sample.kept()
    assert len(texts) == 50 and [int(text) for text in texts] == sorted(int(text) for text in texts)
    assert [document[0] for document in documents] == [int(text) for text in texts]
    assert 300 < np.mean([int(text) for text in texts]) < 700
