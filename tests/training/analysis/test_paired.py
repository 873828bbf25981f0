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


def test_one_seed_resolves_nothing():
    assert detectable([0.1]) is None and half_width([0.1]) is None
