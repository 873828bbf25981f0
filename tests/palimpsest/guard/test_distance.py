from __future__ import annotations

import numpy as np
import pytest

from palimpsest.guard.copying import Known, bleu, novelty_nulls, self_bleu, self_bleu_null
from palimpsest.guard.distance import Detector, distance, mmd, sample, vendi
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trends import judge_classifier, judge_distance
from palimpsest.guard.verifier import judge_verifier

HYPOTHESIS = "It is a guide to action which ensures that the military always obeys the commands of the party"
REFERENCES = [
    "It is a guide to action that ensures that the military will forever heed Party commands",
    "It is the guiding principle which guarantees the military forces always being under the command of the Party",
    "It is the practical guide for the army always to heed the directions of the party",
]


def made(count: int, seed: int, words: int = 300, spread: float = 1.0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{int(n)}" for n in random.exponential(spread * words / 3, 60) % words) for _ in range(count)]


def test_equal_text_is_not_told_apart_and_other_text_is():
    real = made(200, 0)
    like, other = distance(real, made(100, 1)), distance(real, made(100, 2, spread=0.3))
    assert like.texts == other.texts == 100
    assert abs(like.auc - like.auc_null.mean) < 0.15 and 0.3 < like.mmd_ratio < 3
    assert other.auc > 0.97 and other.mmd_ratio > 5
    assert other.vendi < other.vendi_null.mean - 3 * other.vendi_null.sd
    assert judge_classifier(like, DEFAULTS, "texts", in_distribution=True).outcome == "passed"
    assert judge_classifier(other, DEFAULTS, "texts", in_distribution=True).outcome == "failed"
    assert judge_classifier(other, DEFAULTS, "texts", in_distribution=False).outcome == "passed"
    assert judge_distance(like, DEFAULTS, "texts").outcome == "passed"
    assert judge_distance(other, DEFAULTS.override({"mmd_warn": 5}), "texts").outcome == "warned"
    again = distance(real, made(100, 2, spread=0.3), nulls=other)
    assert again.mmd == pytest.approx(other.mmd) and again.auc_null == other.auc_null


def test_generated_text_of_a_trigram_is_detected(written):
    here = written(0)
    real, generated = here.reference.texts, here.texts("mode-seeking", 1)
    detector = Detector(real[::12], generated[::12])
    scores = detector.score([*real[6::24][:100], *generated[6::24][:100], "  "])
    assert scores[:100].mean() < 0.35 and scores[100:200].mean() > 0.65 and scores[-1] == 0.5
    assert detector.score([]).tolist() == []


def test_bad_input_is_said():
    with pytest.raises(ValueError, match="needs 40 real and 20 generated"):
        distance(made(30, 0), made(30, 1))
    with pytest.raises(ValueError, match="needs 40 real"):
        Detector([], [])
    with pytest.raises(ValueError, match="all texts are equal"):
        Detector(["same"] * 30, ["same"] * 30)
    equal = distance(["one two three four"] * 60, made(30, 1))
    assert judge_distance(equal, DEFAULTS, "texts").outcome == "not_judged"


def test_kernel_distance_and_variety_by_hand():
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 8))
    assert mmd(rows[:200], rows[200:]) < 0.3 < mmd(rows[:200], rows[200:] + 1)
    assert mmd(rows, rows) == 0
    assert vendi(np.eye(6)) == pytest.approx(6)
    assert vendi(np.ones((9, 4))) == pytest.approx(1)
    assert vendi(np.zeros((3, 4))) == 1.0


def test_a_sample_reads_once_and_skips_blank_texts():
    found = sample((text for text in ["", "  ", *map(str, range(5_000))]), 0, 200)
    assert len(set(found)) == 200 and 2_000 < np.mean([int(text) for text in found]) < 3_000
    assert len(sample(["x" * 5_000], 0)[0]) == 1_000


def test_bleu_is_the_published_one():
    """The example of Papineni et al. 2002; 0.5046 is what NLTK documents for it."""
    assert bleu(HYPOTHESIS.split(), [text.split() for text in REFERENCES]) == pytest.approx(0.5045666840058485)


def test_self_bleu_is_the_mean_of_each_against_the_rest():
    texts = [HYPOTHESIS, *REFERENCES, "no word in common with any"]
    tokens = [text.split() for text in texts]
    each = [bleu(words, tokens[:place] + tokens[place + 1 :]) for place, words in enumerate(tokens)]
    assert self_bleu(texts) == pytest.approx(np.mean(each))
    assert self_bleu(["one template for all of them"] * 9) == pytest.approx(1.0)
    assert self_bleu(["alone"]) is self_bleu([]) is None


def test_novelty_is_the_share_of_new_runs():
    vocabulary = Vocabulary()
    known = Known([vocabulary.encode("a b c d e f g")], (5, 9))
    found = known.novelty([vocabulary.encode("a b c d e x"), vocabulary.encode("b c d e f g")])
    assert found == {5: 0.25, 9: None}
    assert Known([], (5,)).novelty([vocabulary.encode("a b c d e")]) == {5: 1.0}


def test_the_nulls_of_copying_are_those_of_real_text():
    vocabulary = Vocabulary()
    known = [vocabulary.encode(" ".join(f"w{n}" for n in range(50)))]
    other = [vocabulary.encode(" ".join(f"w{n}" for n in range(start, start + 6))) for start in range(0, 60, 3)]
    nulls = novelty_nulls(Known(known, (5, 9)), other)
    whole = Known(known, (5, 9)).novelty(other)[5]
    assert nulls.keys() == {5}, "no document has nine tokens"
    assert nulls[5].mean == pytest.approx(whole, abs=0.1) and nulls[5].sd > 0
    assert novelty_nulls(Known(known), other[:5]) == {}
    texts = [" ".join(f"w{(n * k) % 7}" for k in range(1, 30)) for n in range(1, 30)]
    few, many = self_bleu_null(texts, 5), self_bleu_null(texts, 25)
    assert few.mean < many.mean <= 1 and few.splits == 8
    assert self_bleu_null(["", ""], 2) is None


def test_a_verifier_is_held_to_chance_and_to_its_audit():
    good = judge_verifier([0.4, 0.5, 0.3, 0.6], 190, 200, DEFAULTS, "the judge")
    assert [v.outcome for v in good] == ["passed", "passed"]
    bad = judge_verifier([0.4, -0.5, 0.3, -0.3], 170, 200, DEFAULTS, "the judge")
    assert [v.outcome for v in bad] == ["failed", "failed"]
    none = judge_verifier([0.1], 5, 5, DEFAULTS, "the judge")
    assert [v.outcome for v in none] == ["not_judged", "not_judged"]


def test_nulls_of_another_number_of_texts_are_not_used():
    real = made(200, 0)
    few = distance(real, made(30, 1))
    same = distance(real, made(30, 2), nulls=few)
    assert same.mmd_null == few.mmd_null
    more = distance(real, made(100, 3), nulls=few)
    assert (few.texts, more.texts) == (30, 100)
    assert more.mmd_null == distance(real, made(100, 3)).mmd_null != few.mmd_null
