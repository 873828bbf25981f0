from __future__ import annotations

import math

import numpy as np
import pytest

from training.analysis.laws import Law, block_noise, fit
from training.analysis.scaling import Efficiency, Reference, _bracket, compare

TRUTH = Law(A=40.0, B=0.3, C=2.0)
FULL = 40_000
SHARES = (0.25, 0.5, 1.0)


def simulate(rng, multipliers, *, seeds=2, noise=0.01, seed_effect=0.05, shares=SHARES, noisy_share=1.0, loud=1.0):
    """Reference points and mixes whose losses follow TRUTH plus a paired seed effect and independent noise."""
    effect = rng.normal(0, seed_effect, seeds)

    def runs(tokens, scale=1.0):
        return {s: TRUTH.loss(tokens) + effect[s] + rng.normal(0, noise * scale) for s in range(seeds)}

    reference = [Reference(int(FULL * s), runs(FULL * s, noisy_share if s == shares[0] else 1.0)) for s in shares]
    return reference, {f"x{m}": runs(FULL * m, loud) for m in multipliers}


def test_a_mix_is_held_against_its_own_real_tokens_not_the_largest_reference():
    """Data made scarce: mixes use FULL real tokens, and the reference runs on up to four times as many."""
    reference, mixes = simulate(np.random.default_rng(1), (0.6, 1.5, 3.0, 6.0), shares=(0.5, 1, 2, 4), noise=1e-5)
    found = compare(reference, mixes, tokens=dict.fromkeys(mixes, FULL)).mixes
    for multiplier in (0.6, 1.5, 3.0, 6.0):
        efficiency = found[f"x{multiplier}"]
        assert efficiency.value == pytest.approx(multiplier, rel=2e-3)
        assert efficiency.difference == pytest.approx(TRUTH.loss(FULL * multiplier) - TRUTH.loss(FULL), abs=1e-4)
        assert efficiency.extrapolated == (multiplier > 4)
    unknown = compare(reference, mixes, tokens=dict.fromkeys(mixes, FULL + 1)).mixes["x1.5"]
    assert unknown.verdict == "not resolved" and "was not run on this mix's 40,001 real tokens" in unknown.reason


def test_without_a_usable_law_the_real_only_runs_bound_the_figure():
    reference = [Reference(tokens, {0: loss, 1: loss + 0.01}) for tokens, loss in ((100, 5.0), (200, 4.99), (400, 3.0))]
    mixes = {
        "between": {0: 4.0, 1: 4.02},
        "below": {0: 2.9, 1: 2.92},
        "worse": {0: 6.0, 1: 6.02},
        "loud": {0: 3.0, 1: 5.0},
        "level": {0: 4.98, 1: 5.02},
        "once": {0: 4.0},
    }
    compared = compare(reference, mixes, tokens=dict.fromkeys(mixes, 200))
    assert compared.law is None
    found = compared.mixes
    bounds = {name: (one.low, one.high) for name, one in found.items() if one.verdict == "bracketed"}
    assert bounds == {"between": (1.0, 2.0), "below": (2.0, None), "worse": (None, 0.5)}
    assert all(found[name].verdict == "not resolved" for name in ("loud", "level", "once"))
    assert all(one.reason == compared.problem and one.value is None for one in found.values())


def test_no_bounds_are_taken_from_real_only_runs_that_more_text_did_not_help():
    reference = [Reference(tokens, {0: loss, 1: loss + 0.01}) for tokens, loss in ((100, 5.0), (200, 5.1), (400, 3.0))]
    found = compare(reference, {"mix": {0: 4.0, 1: 4.02}}, tokens={"mix": 200}).mixes["mix"]
    assert (found.verdict, found.low, found.high) == ("not resolved", None, None)


def test_no_bounds_are_taken_where_a_real_only_run_has_no_finite_loss():
    reference = [Reference(d, {0: loss, 1: loss + 0.01}) for d, loss in ((100, 5.0), (200, math.nan), (400, 3.0))]
    found = compare(reference, {"mix": {0: 4.0, 1: 4.02}}, tokens={"mix": 100}).mixes["mix"]
    assert (found.verdict, found.low, found.high) == ("not resolved", None, None)
    assert "no finite loss" in found.reason


def test_the_bounds_leave_the_truth_out_as_seldom_as_they_say():
    """Real-only runs on a plateau that no law follows; a mix worth exactly D, so that any bound at D is wrong."""
    sizes, curve = (50, 100, 200, 400), lambda d: 5.2 - 1.8 / (1 + (170 / d) ** 6)
    noise, wrong, drawn = np.random.default_rng(3), 0, 600
    for _ in range(drawn):
        shared = noise.normal(0, 0.05, 3)
        losses = {d: dict(enumerate(curve(d) + shared + noise.normal(0, 0.03, 3))) for d in sizes}
        mix = dict(enumerate(curve(100) + shared + noise.normal(0, 0.1, 3)))
        low, high = _bracket([Reference(d, own) for d, own in losses.items()], 100, mix, [0, 1, 2], 0.95)
        wrong += (low is not None and low >= 1) or (high is not None and high <= 1)
    assert 0.02 < wrong / drawn < 0.08


def test_the_interval_covers_a_multiplier_that_lies_between_reference_points():
    assert coverage(30, shares=(0.5, 1, 2, 4)) > 0.9


@pytest.mark.parametrize("tokens", [(1e4, 2e4, 4e4), (1e4, 2e4, 3e4, 4e4, 8e4)], ids=["3 points", "5 points"])
def test_noise_free_points_give_back_their_law(tokens):
    law = fit(tokens, [TRUTH.loss(t) for t in tokens])
    assert pytest.approx(TRUTH.B, rel=1e-3) == law.B
    assert pytest.approx(TRUTH.C, rel=2e-3) == law.C
    assert law.tokens(law.loss(123_456)) == pytest.approx(123_456, rel=1e-6)


def test_fit_agrees_with_scipy_on_noisy_points():
    from scipy.optimize import least_squares

    rng = np.random.default_rng(0)
    x = np.array([0.1, 0.2, 0.4, 0.7, 1.0])
    y = 1.5 * x**-0.4 + 2 + rng.normal(0, 0.01, len(x))
    ours = fit(x, y)
    theirs = min(
        (least_squares(lambda p: p[0] * x ** -p[1] + p[2] - y, [1, b, 1], bounds=(0, np.inf)) for b in (0.1, 0.5, 1)),
        key=lambda r: r.cost,
    )
    assert pytest.approx(tuple(theirs.x), rel=1e-3) == (ours.A, ours.B, ours.C)


def test_floor_never_goes_below_zero():
    tokens = [1e4, 2e4, 4e4]
    law = fit(tokens, [6.0, 5.5, 4.9])  # falls ever faster: an unbounded fit has a negative floor
    assert law.C == 0 and law.A > 0 and law.B > 0


def test_planted_multipliers_are_recovered_without_noise():
    reference, mixes = simulate(np.random.default_rng(1), (0.6, 1.4, 3.0), noise=1e-5)
    found = compare(reference, mixes).mixes
    for multiplier in (0.6, 1.4, 3.0):
        efficiency = found[f"x{multiplier}"]
        assert efficiency.verdict == "resolved"
        assert efficiency.value == pytest.approx(multiplier, rel=0.01)
        assert efficiency.low <= multiplier * 1.011 and efficiency.high >= multiplier * 0.989
        assert efficiency.extrapolated == (multiplier > 1)


@pytest.mark.parametrize(
    ("seeds", "shares", "noise"),
    [(2, SHARES, 0.02), (3, SHARES, 0.01), (3, (0.125, *SHARES), 0.005)],
    ids=["2 seeds", "3 seeds", "4 sizes"],
)
def test_interval_covers_the_planted_multiplier(seeds, shares, noise):
    """95% nominal, over 50 studies of four multipliers, of which one is 1 and two are extrapolated.

    Not 99% either, under that label: with two seeds, though, most intervals are open at an end, and cover.
    """
    assert 0.93 <= coverage(50, seeds=seeds, shares=shares, noise=noise) <= (0.98 if seeds > 2 else 1)


@pytest.mark.parametrize(("noise", "loud"), [(0.005, 4.0), (0.02, 0.25)], ids=["loud mixes", "loud reference"])
def test_interval_covers_where_mixes_and_reference_scatter_unequally(noise, loud):
    assert coverage(50, seeds=3, shares=(0.125, *SHARES), noise=noise, loud=loud) >= 0.93


def test_interval_loses_little_where_the_smallest_size_is_twice_as_noisy_as_the_pool_assumes():
    assert coverage(40, seeds=2, noise=0.02, noisy_share=2.0) >= 0.88


def test_the_interval_is_of_the_seeds_alone():
    """What a seed does to every run alike changes nothing; seeds that agree leave no doubt."""
    reference, mixes = simulate(np.random.default_rng(3), (1.5,), seeds=3, noise=0.01, shares=(0.125, *SHARES))
    shifts = {0: 0.4, 1: -0.3, 2: 0.1}

    def shifted(losses):
        return {seed: loss + shifts[seed] - np.mean(list(shifts.values())) for seed, loss in losses.items()}

    found = compare(reference, mixes).mixes["x1.5"]
    other = compare(
        [Reference(p.tokens, shifted(p.losses)) for p in reference], {"x1.5": shifted(mixes["x1.5"])}
    ).mixes["x1.5"]
    assert (other.low, other.high) == pytest.approx((found.low, found.high), rel=1e-3)
    exact, mixes = simulate(np.random.default_rng(3), (1.5,), seeds=3, noise=1e-5, shares=(0.125, *SHARES))
    sure = compare(exact, mixes).mixes["x1.5"]
    assert (sure.low, sure.high) == pytest.approx((1.5, 1.5), rel=0.02)


def coverage(studies, multipliers=(0.7, 1.0, 1.5, 2.5), **truth):
    """Share of intervals that hold their multiplier, among the studies whose law is usable; an open end counts."""
    rng = np.random.default_rng(7)
    covered = total = 0
    for _ in range(studies):
        reference, mixes = simulate(rng, multipliers, **truth)
        found = compare(reference, mixes, tokens=dict.fromkeys(mixes, FULL))
        for multiplier, efficiency in zip(multipliers, () if found.problem else found.mixes.values(), strict=False):
            total += 1
            covered += (efficiency.low or 0) <= multiplier <= (efficiency.high or math.inf)
    assert total > 0.9 * studies * len(multipliers)
    return covered / total


def test_what_a_value_hangs_on_is_said():
    reference, mixes = simulate(np.random.default_rng(1), (1.0, 2.0), noise=1e-5, shares=(0.125, *SHARES))
    found = compare(reference, mixes).mixes
    low, high = found["x2.0"].left_out
    assert low <= found["x2.0"].value <= high and high - low < 0.1
    assert found["x2.0"].without_floor < 1.95  # without a floor the law falls faster, so less text is needed
    assert found["x2.0"].familywise and not found["x1.0"].familywise


def test_a_mix_that_does_nothing_is_rarely_called_resolved():
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        reference, mixes = simulate(rng, (1.0, 1.3, 1.6), noise=0.02)
        wrong += compare(reference, mixes).mixes["x1.0"].verdict != "not resolved"
    assert wrong / 200 <= 0.08


def test_seed_effect_shared_by_all_recipes_is_not_noise():
    calm = block_noise([{0: 5.0, 1: 5.5}, {0: 4.0, 1: 4.5}, {0: 3.0, 1: 3.5}], {0, 1})
    assert (calm.deviation, calm.freedom) == (pytest.approx(0, abs=1e-12), 2)


def test_loss_below_the_floor_gives_a_lower_bound_and_no_number():
    reference, _ = simulate(np.random.default_rng(5), (), noise=0.001)
    effect = {s: reference[-1].losses[s] - TRUTH.loss(FULL) for s in (0, 1)}
    mixes = {"deep": {s: TRUTH.C - 0.2 + effect[s] for s in (0, 1)}}
    efficiency = compare(reference, mixes).mixes["deep"]
    assert efficiency.verdict == "beyond floor"
    assert efficiency.value is None and efficiency.high is None and efficiency.low > 1


DEGENERATE = {
    "no reference": ([], "3 or more"),
    "two shares": ([Reference(1, {0: 3.0, 1: 3.0}), Reference(2, {0: 2.0, 1: 2.0})], "found 2"),
    "rising": ([Reference(t, {0: t, 1: t}) for t in (1, 2, 3)], "does not fall"),
    "flat": ([Reference(t, {0: 3.0, 1: 3.0}) for t in (1, 2, 3)], "does not fall"),
    "no common seed": ([Reference(t, {t: 4.0 - t}) for t in (1, 2, 3)], "no seed in common"),
    "diverged": ([Reference(t, {0: math.nan, 1: 4.0 - t}) for t in (1, 2, 3)], "finite"),
    "not a power law": ([Reference(t, {0: x, 1: x + 1e-4}) for t, x in ((1, 6.0), (2, 5.9), (4, 4.0))], "misses"),
}


@pytest.mark.parametrize(("reference", "reason"), DEGENERATE.values(), ids=DEGENERATE)
def test_unusable_reference_is_a_verdict_with_a_reason(reference, reason):
    comparison = compare(reference, {"mix": {0: 1.0, 1: 9.0}})
    assert comparison.law is None and reason in comparison.problem
    assert comparison.mixes["mix"].verdict == "not resolved" and reason in comparison.mixes["mix"].reason


@pytest.mark.parametrize(
    ("losses", "reason"),
    [({0: 3.0}, "one seed"), ({9: 3.0}, "no seed"), ({0: math.nan, 1: 3.0}, "finite"), ({}, "no seed")],
    ids=["one seed", "unpaired", "diverged", "never ran"],
)
def test_unusable_mix_is_a_verdict_with_a_reason(losses, reason):
    reference, _ = simulate(np.random.default_rng(2), ())
    efficiency = compare(reference, {"mix": losses}).mixes["mix"]
    assert efficiency.verdict == "not resolved" and reason in efficiency.reason


def test_no_number_is_ever_nan():
    rng = np.random.default_rng(11)
    for _ in range(60):
        reference, mixes = simulate(rng, (0.2, 1, 50), seeds=int(rng.integers(1, 4)), noise=float(rng.choice([0, 1])))
        for efficiency in compare(reference, mixes).mixes.values():
            assert isinstance(efficiency, Efficiency)
            numbers = (efficiency.value, efficiency.low, efficiency.high, efficiency.difference, efficiency.margin)
            assert all(n is None or math.isfinite(n) for n in numbers)
            assert efficiency.verdict == "resolved" or efficiency.reason
