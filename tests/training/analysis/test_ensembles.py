from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from training.analysis.ensembles import by_size, fit_members
from training.analysis.laws import Law, fit, fit_series

LAW = Law(A=0.15, B=1.0, C=3.2)
SPREAD, WORSE, TOKENS = 0.6, 0.01, 400
"""Of a member's loss from token to token, and of members between themselves, in nats."""


def ensembles(rng, members):
    """Losses of averaged probabilities, every choice of so many members."""
    alone = 3.5 + rng.normal(0, SPREAD, (members, TOKENS)) + rng.normal(0, WORSE, (members, 1))
    return {
        tuple(map(str, chosen)): float((np.log(size) - np.logaddexp.reduce(-alone[list(chosen)], axis=0)).mean())
        for size in range(1, members + 1)
        for chosen in combinations(range(members), size)
    }


def law_of_many(members, studies=600):
    """Through what ensembles of members yet to be trained are expected to lose."""
    rng = np.random.default_rng(9)
    return fit(range(1, members + 1), np.mean([by_size(ensembles(rng, members)) for _ in range(studies)], axis=0))


def test_intervals_cover_the_law_of_members_yet_to_be_trained():
    """And residuals of the law through one chain of members do not: they take a smooth curve for a certain one."""
    truth, rng = law_of_many(5), np.random.default_rng(0)
    covered, chained = np.zeros(3), np.zeros(3)
    for _ in range(120):
        losses = ensembles(rng, 5)
        chain = [{0: losses[tuple(map(str, range(k)))]} for k in range(1, 6)]
        for found, count in ((fit_members(losses), covered), (fit_series(range(1, 6), chain, draws=200), chained)):
            count += [getattr(found.low, n) <= getattr(truth, n) <= getattr(found.high, n) for n in "ABC"]
    assert (covered / 120 >= 0.93).all(), covered / 120
    assert chained[0] / 120 < 0.85 and chained[2] / 120 < 0.9, chained / 120


def test_the_points_are_means_over_every_choice():
    losses = ensembles(np.random.default_rng(2), 4)
    pairs = [loss for chosen, loss in losses.items() if len(chosen) == 2]
    assert len(pairs) == 6 and by_size(losses)[1] == pytest.approx(np.mean(pairs))
    found = fit_members(losses)
    assert (found.points, found.seeds, found.resampled) == (4, 4, "members") and len(found.left_out) == 4


def test_equal_members_leave_no_doubt():
    losses = {chosen: LAW.loss(len(chosen)) for size in range(1, 6) for chosen in combinations("abcde", size)}
    found = fit_members(losses)
    assert found.low.C == pytest.approx(LAW.C, abs=1e-4) == found.high.C
    assert found.problem == "" and found.resampled == "members"


@pytest.mark.parametrize(
    ("members", "reason"), [("ab", "found 2"), ("abc", "no interval: each member is left out once")], ids=["2", "3"]
)
def test_few_members_say_what_they_lack(members, reason):
    losses = {
        chosen: LAW.loss(len(chosen)) for size in range(1, len(members) + 1) for chosen in combinations(members, size)
    }
    found = fit_members(losses)
    assert reason in found.problem and found.low is None and (found.law is None) == (len(members) == 2)


def test_a_loss_that_is_none_makes_no_law():
    losses = {chosen: np.nan for size in range(1, 4) for chosen in combinations("abc", size)}
    assert fit_members(losses).problem == "a point has no finite loss"
