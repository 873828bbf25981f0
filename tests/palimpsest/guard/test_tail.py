from __future__ import annotations

import numpy as np
import pytest

from palimpsest.guard.judge import judge_tail
from palimpsest.guard.tail import Counts, mass_null, sampled, subsampled, survival, tail
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.tokens import Vocabulary, draw, size


def counts(documents, spread=False):
    found = Counts(spread=spread)
    found.add(documents)
    return found


@pytest.mark.parametrize(
    ("count", "published"), [(1, (0.64, 0.47, 0.38, 0.27)), (3, (0.96, 0.85, 0.76, 0.62)), (10, (1.0, 1.0, 0.99, 0.96))]
)
def test_survival_is_the_branching_process(count, published):
    assert [survival(count, depth) for depth in (1, 2, 3, 5)] == pytest.approx(published, abs=0.013)


def test_survival_is_what_resampling_does():
    random = np.random.default_rng(0)
    words = np.repeat(np.arange(3_000), 2)
    for depth in (1, 2, 3):
        words = random.choice(words, len(words))
        assert len(np.unique(words)) / 3_000 == pytest.approx(survival(2, depth), abs=0.02)
    assert len(np.unique(random.choice(np.arange(3_000), 9_000))) / 3_000 == pytest.approx(
        survival(1, 1, 3.0), abs=0.02
    )


def test_a_half_of_the_documents_keeps_what_subsampling_says():
    random = np.random.default_rng(1)
    documents = [random.integers(2, 60_000, 50).astype(np.int32) for _ in range(400)]
    source = counts(documents, spread=True).source()
    found = np.mean([tail(counts(draw(documents, 10_000, random)), source).recall for _ in range(5)])
    assert found == pytest.approx(subsampled(source, 0.5), abs=0.01)


def test_the_tail_of_a_set_by_hand():
    vocabulary = Vocabulary()
    source = counts([vocabulary.encode(t) for t in ("a a a a b b c", "a a a a b d")], spread=True).source()
    found = tail(counts([vocabulary.encode("a b c e")]), source)
    assert (found.tokens, found.rare, found.kept, found.recall) == (4, 3, 2, pytest.approx(2 / 3))
    assert found.mass == 0.75  # b, c, and e, which the source never has
    assert found.ratio == pytest.approx(4 / 13) and not found.is_full
    assert sampled(source, 1) == pytest.approx((survival(3, 1) + 2 * survival(1, 1)) / 3)


def many(words: int, copies: int = 1):
    return [np.arange(2, 2 + words, dtype=np.int32) for _ in range(copies)]


def test_the_mass_of_the_tail_has_a_null_around_its_own():
    counts, documents = Counts(spread=True), [np.array([2, 2, 2, 3 + number, 3 + number]) for number in range(40)]
    counts.add(documents)
    null = mass_null(counts.source(), documents, 50)
    assert null.mean == pytest.approx(tail(counts, counts.source()).mass) == pytest.approx(0.4)
    uneven = [*documents, *[np.array([2] * 5)] * 40]
    assert mass_null(counts.source(), uneven, 50).sd > 0
    assert mass_null(counts.source(), documents[:15], 50) is None


def test_a_generator_that_avoids_rare_words_fails_and_says_so():
    source = counts(many(1_000), spread=True).source()
    kept = counts([np.resize(np.arange(2, 502, dtype=np.int32), 1_000)])
    [verdict] = judge_tail(tail(kept, source), source, DEFAULTS, "rephrases of domain wikinews")
    assert (verdict.gate, verdict.outcome, verdict.limit) == ("G8", "failed", 0.9)
    assert verdict.value == pytest.approx(0.5 / survival(1, 1))
    assert verdict.sentence == (
        "rephrases of domain wikinews keep 79% of the rare words that sampling alone would keep; at least 90% is asked"
    )


def test_a_small_set_is_held_to_real_text_of_its_size():
    source = counts(many(2_000), spread=True).source()
    for kept, outcome, severity in (
        (960, "passed", "warning"),
        (820, "warned", "warning"),
        (600, "failed", "critical"),
    ):
        found = counts([np.resize(np.arange(2, 2 + kept, dtype=np.int32), 1_000)])
        [verdict] = judge_tail(tail(found, source), source, DEFAULTS, "texts")
        assert (verdict.outcome, verdict.severity) == (outcome, severity), verdict.sentence
        assert "real text of the same size" in verdict.sentence


@pytest.mark.parametrize(
    ("synthetic", "real", "why"),
    [
        ([], many(1_000), "are empty"),
        (many(50), many(50), "the source of texts has 50 words"),
        (many(1_000), many(1_000, 9), "the source of texts has 0 words"),
        (many(20), many(1_000), "too few to judge"),
    ],
)
def test_what_cannot_be_judged_is_said(synthetic, real, why):
    source = counts(real, spread=True).source()
    [verdict] = judge_tail(tail(counts(synthetic), source), source, DEFAULTS, "texts")
    assert verdict.outcome == "not_judged" and why in verdict.sentence and verdict.value is None


def test_draws_are_exact():
    documents = many(7, 5)
    assert size(draw(documents, 12, np.random.default_rng(0))) == 12
    assert size(draw(documents, 99, np.random.default_rng(0))) == 35
    with pytest.raises(ValueError, match="depth starts at 1"):
        survival(1, 0)
