from __future__ import annotations

import numpy as np
import pytest

from training.analysis.paired import detectable, half_width


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_four_studies_of_five_resolve_the_detectable_difference(seeds):
    pairs = np.linspace(-1, 1, seeds)
    pairs /= pairs.std(ddof=1)  # so that the planted deviation of a pair is 1
    drawn = np.random.default_rng(0).normal(detectable(pairs), 1, (20_000, seeds))
    limit = half_width(pairs) * drawn.std(1, ddof=1)
    assert (drawn.mean(1) > limit).mean() == pytest.approx(0.8, abs=0.01)
    assert detectable(pairs, power=0.9) > detectable(pairs) > half_width(pairs)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_holds_the_true_difference_in_19_studies_of_20(seeds):
    drawn = np.random.default_rng(seeds).normal(0.02, 0.01, (4_000, seeds))
    held = np.mean([abs(own.mean() - 0.02) <= half_width(own) for own in drawn])
    assert held == pytest.approx(0.95, abs=0.011), "three deviations of 4,000 studies"


def test_one_seed_resolves_nothing():
    assert detectable([0.1]) is None and half_width([0.1]) is None
