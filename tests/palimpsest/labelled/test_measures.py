"""The measures of the report card on inputs whose answer is known, and the gates' verdicts at their limits."""

from __future__ import annotations

import numpy as np
import pytest

from palimpsest.config import Labelled
from palimpsest.config.labelled import Learner
from palimpsest.labelled.coverage import Cell
from palimpsest.labelled.judge import judge
from palimpsest.labelled.learner import Classifier, label_noise
from palimpsest.labelled.score import calibration_error, score
from tests.palimpsest.labelled.conftest import content

CELLS = [
    Cell("a", "a", "all", 100, 20, 10, 60, 10, 60, 0, 300, 0, "enough", ""),
    Cell("b", "b", "all", 100, 20, 10, 20, 50, 60, 40, 100, 40, "generate", ""),
]


def seed(oversampled: float, verified: float, *, head: float = 0.9, unverified: float = 0.80, good: int = 50) -> dict:
    def arm(accuracy: float, added: int, recall: float = 0.9) -> dict:
        return {"balanced_accuracy": accuracy, "head_recall": recall, "added": added}

    return {
        "arms": {
            "nothing": arm(0.7, 0),
            "oversampled": arm(oversampled, 0),
            "unverified": arm(unverified, 40),
            "verified": arm(verified, 40, head),
        },
        "verifier": {"cells": {"b": {"drafts": 100, "accepted": 50, "used": 40}}},
        "audit": {"by": "planted", "audited": 50, "good": good},
        "separation": {"accepted": 50, "turned_away": 1, "still_near": 0},
    }


@pytest.fixture
def verdicts(tmp_path):
    study = Labelled.model_validate(content(tmp_path / "none.parquet"))
    return lambda seeds: {(v.gate, v.measure): v for v in judge(study, CELLS, seeds)}


BASES = (0.80, 0.82, 0.81, 0.83, 0.79)
"""Mean 0.81, deviation 1.58 points."""


def test_a_gain_of_a_deviation_passes_and_less_fails(verdicts):
    above, below = (
        verdicts([seed(base, base + gain + 0.001 * (base > 0.8)) for base in BASES]) for gain in (0.0165, 0.013)
    )
    assert above["L1", "gain"].outcome == "passed"
    assert above["L1", "gain"].limit == pytest.approx(1.58, abs=0.01)
    assert below["L1", "gain"].outcome == "failed"
    assert below["L1", "gain"].sentence == (
        "verified items raise balanced accuracy by 1.4 points against oversampling alone, 81.0% to 82.4%; at least 1.6 "
        "points more are asked, 1 deviation between 5 seeds"
    )


def test_what_the_head_loses_is_told_beside_what_oversampling_loses(verdicts):
    found = verdicts([seed(base, base, head=0.88) for base in BASES])["L2", "head_loss"]
    assert (found.outcome, found.value) == ("failed", pytest.approx(2.0))
    assert "lose 2.0 points of recall to verified items (oversampling alone: 0.0)" in found.sentence


def test_a_verifier_that_lets_faults_through_fails_and_one_no_better_than_chance_too(verdicts):
    found = verdicts([seed(base, 0.80, good=44) for base in BASES])
    assert found["G11", "precision"].outcome == "failed"
    assert found["G11", "precision"].value == pytest.approx(0.88)
    assert found["G11", "gain"].outcome == "not_judged", "all gains are equal: nothing varies"
    worse = verdicts([seed(base, 0.80 + (base - 0.81) / 10) for base in BASES])
    assert worse["G11", "gain"].outcome == "failed"


def test_seeds_that_are_too_few_or_all_alike_are_not_judged(verdicts):
    assert "by 2 seeds; 5 are asked" in verdicts([seed(b, b) for b in BASES[:2]])["L1", "gain"].sentence
    assert verdicts([seed(0.8, 0.9)] * 5)["L1", "gain"].outcome == "not_judged"


def test_scores_of_known_answers():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    labels = np.array([0, 0, 0, 1, 1])
    found = score(probabilities, labels, labels, [False, True])
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert (found["worst_cell"], found["head_recall"], found["tail_recall"]) == (0, pytest.approx(2 / 3), 1.0)
    assert score(probabilities, labels, labels, [True, True])["head_recall"] is None


def test_a_classifier_as_right_as_it_is_sure_has_no_calibration_error():
    labels = np.array([0] * 8 + [1] * 2)
    assert calibration_error(np.tile([0.8, 0.2], (10, 1)), labels) == pytest.approx(0)
    assert calibration_error(np.tile([1.0, 0.0], (10, 1)), labels) == pytest.approx(0.2)


def test_swapped_labels_look_wrong_and_others_do_not():
    random = np.random.default_rng(0)
    truth = random.integers(3, size=300)
    probabilities = np.full((300, 3), 0.1)
    probabilities[np.arange(300), truth] = 0.8
    labels = truth.copy()
    labels[:30] = (truth[:30] + 1) % 3
    wrong = label_noise(probabilities, labels, np.arange(300) >= 30)
    assert wrong[:30].all() and not wrong[30:].any()


def test_last_steps_on_real_items_undo_what_generated_ones_taught():
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 2)) + np.repeat([[-1, 0], [1, 0]], 100, axis=0)
    made = random.normal(size=(200, 2)) + np.repeat([[3, 0], [-3, 0]], 100, axis=0)
    labels = np.repeat([0, 1, 0, 1], 100)
    both, real = np.concatenate([rows, made]), np.arange(200)
    right = [
        (Classifier(Learner(), 2, both, labels, last=last).probabilities(rows).argmax(axis=1) == labels[:200]).mean()
        for last in (None, real)
    ]
    assert right[0] < 0.5 < 0.7 < right[1]


def test_a_classifier_of_one_label_is_refused():
    with pytest.raises(ValueError, match="two labels or more"):
        Classifier(Learner(), 2, np.zeros((3, 2)), np.zeros(3, int))
