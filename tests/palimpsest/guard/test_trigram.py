from __future__ import annotations

import numpy as np
import pytest

from palimpsest.guard.judge import judge_probe
from palimpsest.guard.probe import additive_probe
from palimpsest.guard.temperature import Tempered
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.tokens import UNKNOWN, Vocabulary, joined, runs
from palimpsest.guard.trigram import ANY, MASK, WEIGHTS, Trigram


@pytest.fixture
def small():
    vocabulary = Vocabulary()
    documents = [vocabulary.encode(text) for text in ("a b c a b d.", "a b c", "é 世界 x_1 -- a b")]
    return vocabulary, documents


def test_probabilities_after_every_context_sum_to_one(small):
    vocabulary, documents = small
    types = len(vocabulary)
    model = Trigram(documents, types)
    for first, second in ((0, 0), (2, 3), (0, 2), (7, 9), (1, 1)):
        every = np.array([first << 42 | second << 21 | last for last in range(types)], np.int64)
        assert model.probability(every).sum() == pytest.approx(1.0)


def test_a_probability_by_hand(small):
    vocabulary, documents = small
    model = Trigram(documents, len(vocabulary))
    a, b, c = (vocabulary.encode(word)[0] for word in "abc")
    found = model.probability(np.array([int(a) << 42 | int(b) << 21 | int(c)]))[0]
    ones = 2 / model.tokens
    assert found == pytest.approx(WEIGHTS[0] * 2 / 4 + WEIGHTS[1] * 2 / 4 + WEIGHTS[2] * ones + ANY / len(vocabulary))


def test_samples_follow_the_text_they_learned(small):
    vocabulary, documents = small
    model = Trigram(documents, len(vocabulary))
    sampled = model.sample(6_000, np.random.default_rng(0))
    assert sum(map(len, sampled)) == 6_000
    own = np.bincount(np.concatenate(sampled), minlength=len(vocabulary)) / 6_000
    real = np.bincount(np.concatenate(documents), minlength=len(vocabulary)) / sum(map(len, documents))
    assert np.abs(own - real).max() < 0.04
    seeking = np.bincount(np.concatenate(model.sample(6_000, np.random.default_rng(0), mode_seeking=True)))
    assert seeking.max() / 6_000 > own.max() + 0.05


def test_numbers_and_words_go_both_ways(small):
    vocabulary, _ = small
    assert vocabulary.decode(vocabulary.encode("Don't-panic, 世界!")) == "Don ' t - panic , 世界 !"
    assert vocabulary.encode("a unheard", grow=False).tolist() == [2, UNKNOWN]


def test_runs_do_not_cross_documents(small):
    vocabulary, documents = small
    assert len(runs(joined(documents), 3)) == sum(max(0, len(document) - 2) for document in documents)
    assert len(runs(joined(documents[:1]), 30)) == 0


def test_nothing_to_learn_or_judge_is_said(small):
    _, documents = small
    with pytest.raises(ValueError, match="at least one token"):
        Trigram([], 9)
    with pytest.raises(ValueError, match="held-out documents are empty"):
        Trigram(documents, 20).perplexity([])
    with pytest.raises(ValueError, match="0 tokens of synthetic text"):
        additive_probe(documents, [], {"": documents}, 20)
    with pytest.raises(ValueError, match=r"tokens of held-out real text; it needs 1,000"):
        additive_probe(documents, documents, {"": documents}, 20)


def test_the_trap_a_baseline_without_the_generators_text_flatters(written):
    """Half the real text is left out of the mix, but the generator learned it: from there, depth 2 helps."""
    here = written(0)
    real, tests, types = here.world.real, {"": here.world.test}, len(here.world.vocabulary)
    synthetic = here.generations["pure", 2]
    part = real[::2]
    flattering = additive_probe(part, synthetic, tests, types, seeds=1)
    honest = additive_probe(part, synthetic, tests, types, learned=real, seeds=1)
    assert flattering.ratio < 1.02
    assert honest.ratio > 1.10
    assert honest.real_tokens == additive_probe(real, synthetic, tests, types, seeds=1).real_tokens


def test_the_worst_domain_is_named(written):
    here = written(0)
    half = len(here.world.test) // 2
    tests = {"one": here.world.test[:half], "two": here.world.test[half:], "tiny": [here.world.test[0][:5]]}
    probe = additive_probe(here.world.real, here.generations["pure", 2], tests, len(here.world.vocabulary), seeds=1)
    assert set(probe.domains) == {"one", "two"}
    overall, domain = judge_probe(probe, DEFAULTS, "rephrases")
    assert overall.measure == "probe" and overall.outcome == "failed"
    worst = max(probe.domains, key=probe.domains.get)
    assert domain.value == probe.domains[worst] and f"domain {worst}, its worst of 2" in domain.sentence
    [neural] = [v for v in judge_probe(probe, DEFAULTS, "rephrases", neural=True) if v.measure == "probe_lm"]
    assert neural.limit == 1.05


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.3])
def test_a_temperature_is_the_power_of_every_probability(small, temperature):
    """After contexts that were seen, half seen and never seen; by hand from the shares that `Trigram.next` draws by."""
    vocabulary, documents = small
    types = len(vocabulary)
    model, random = Trigram(documents, types), np.random.default_rng(0)
    follow = Tempered(model, temperature).next
    threes, twos = (np.stack([table >> 42, table >> 21 & MASK, table & MASK]) for table in (model.threes, model.twos))
    for first, second in ((0, 0), (2, 3), (3, 2), (types - 1, 3), (1, 1)):
        after = threes[2, (threes[0] == first) & (threes[1] == second)], twos[2, twos[1] == second], model.ones
        three, two, one = (np.bincount(found, minlength=types) / max(1, len(found)) for found in after)
        weights = WEIGHTS if len(after[0]) else (0, WEIGHTS[:2].sum(), WEIGHTS[2])
        weights = weights if len(after[1]) else (0, 0, WEIGHTS.sum())
        wanted = (weights[0] * three + weights[1] * two + weights[2] * one + ANY / types) ** (1 / temperature)
        drawn = follow(np.array([[first] * 40_000, [second] * 40_000]), random)
        assert np.bincount(drawn, minlength=types) / 40_000 == pytest.approx(wanted / wanted.sum(), abs=0.012)


def test_a_temperature_of_nothing_is_refused(small):
    vocabulary, documents = small
    with pytest.raises(ValueError, match="a temperature of 0 draws nothing"):
        Tempered(Trigram(documents, len(vocabulary)), 0)
