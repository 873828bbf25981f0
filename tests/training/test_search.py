"""The search on planted losses: where it ends, that its certificate holds, and what it does when it may not go on."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from palimpsest.config.mixes import AXES, Search
from training.points import Point
from training.search import certificate, next_points, walk

VALUES = {
    "lr": [0.001, 0.003, 0.01, 0.03],
    "weight_decay": [0.1, 0.2, 0.4, 0.8, 1.6],
    "epochs": [1, 2, 4, 8, 16, 32],
    "f": [0.5, 0.75, 0.9],
}
START = Point(0.003, 0.4, 8, 0.75)


def make(**settings) -> Search:
    return Search(**({**VALUES, "max_runs": 500, "max_waves": 32} | settings))


def places(point: Point, values=VALUES) -> tuple[int, ...]:
    return tuple(values[axis].index(getattr(point, axis)) for axis in AXES)


def neighbours(point: Point, values=VALUES) -> list[Point]:
    """One step along one axis, found by looking at all points of the grid."""
    near = []
    for other in itertools.product(*values.values()):
        steps = [abs(a - b) for a, b in zip(places(Point(*other), values), places(point, values), strict=True)]
        if sum(steps) == 1:
            near.append(Point(*other))
    return near


def bowl(*lowest: float):
    """A convex loss with its lowest point at these places on the axes."""
    return lambda point: 3 + sum((a - b) ** 2 for a, b in zip(places(point), lowest, strict=True)) / 100


def searched(search, loss, start=START, axes=AXES):
    """The losses it asked for, wave by wave."""
    losses, waves = {}, []
    while wave := next_points(search, axes, start, losses):
        assert not set(wave) & losses.keys(), "asked for what has run"
        assert len(set(wave)) == len(wave)
        waves.append(wave)
        losses |= {point: loss(point) for point in wave}
    return losses, waves


def checked(search, losses, start=START, axes=AXES) -> dict:
    """Its certificate, compared with all there is to know."""
    found = certificate(search, axes, start, losses)
    centre = Point(**found["centre"])
    values = VALUES | {axis: [getattr(start, axis)] for axis in AXES if axis not in axes}
    near = neighbours(centre, values)
    assert {Point(**row["point"]) for row in found["neighbours"]} == set(near)
    assert all(row["loss"] == losses.get(Point(**row["point"])) for row in found["neighbours"])
    assert found["loss"] == losses[centre] == min(losses.values())
    assert found["certified"] == all(losses.get(point, -1) >= losses[centre] for point in near)
    assert found["missing"] == sum(point not in losses for point in near)
    assert found["runs"] == len(losses)
    return found


def test_the_first_wave_is_the_centre_and_both_neighbours_on_every_axis():
    wave = next_points(make(), AXES, START, {})
    assert wave[0] == START
    assert set(wave) == {START, *neighbours(START)}
    assert len(wave) == 9
    real = next_points(make(), AXES[:3], START._replace(f=0.0), {})
    assert len(real) == 7
    assert {point.f for point in real} == {0.0}


@pytest.mark.parametrize("lowest", [(1, 2, 3, 1), (2, 3, 1, 1), (1, 1, 4, 2), (2, 1, 2, 0)])
def test_a_convex_loss_is_followed_to_its_lowest_point_with_a_certificate(lowest):
    losses, waves = searched(make(), bowl(*lowest))
    found = checked(make(), losses)
    assert places(Point(**found["centre"])) == lowest
    assert (found["ended"], found["certified"], found["missing"]) == ("certificate", True, 0)
    assert found["waves"] == len(waves) <= 1 + sum(abs(a - b) for a, b in zip(lowest, places(START), strict=True))
    assert len(losses) < 4 * 5 * 6 * 3 / 4
    assert found["margin"] == pytest.approx(0.01)


def test_a_best_point_at_the_end_of_an_axis_is_certified_and_flagged():
    losses, _ = searched(make(), bowl(1, 2, 9, -3))
    found = checked(make(), losses)
    assert found["certified"]
    assert found["edges"] == {"epochs": "high", "f": "low"}
    assert (found["centre"]["epochs"], found["centre"]["f"]) == (32, 0.5)


def test_an_axis_of_one_value_has_no_end():
    search = make(f=[0.75])
    found = certificate(search, AXES, START, _flat(search))
    assert "f" not in found["edges"]


def _flat(search):
    losses = {}
    while wave := next_points(search, AXES, START, losses):
        losses |= dict.fromkeys(wave, 3.0)
    return losses


def test_on_a_ridge_it_ends_where_no_single_step_helps_and_says_no_more():
    """A narrow valley along the diagonal of lr and weight decay, as they trade off: only a double step goes down it."""

    def ridge(point):
        lr, decay, *rest = places(point)
        return (
            3 + 0.5 * abs(lr - decay + 1) + 0.1 * decay + sum((a - b) ** 2 for a, b in zip(rest, (3, 1), strict=True))
        )

    losses, _ = searched(make(), ridge)
    found = checked(make(), losses)
    assert found["certified"]
    everywhere = min(map(ridge, itertools.starmap(Point, itertools.product(*VALUES.values()))))
    assert found["loss"] > everywhere, "the planted ridge is meant to hold it up"
    whole, _ = searched(make(method="grid"), ridge)
    assert min(whole.values()) == everywhere


@pytest.mark.parametrize("seed", range(60))
def test_on_any_losses_it_ends_its_certificate_holds_and_no_budget_is_passed(seed):
    """Noise without any shape, a fifth of it diverged: the hardest loss to be right about."""
    chance = random.Random(seed)
    noise = {
        Point(*values): math.inf if chance.random() < 0.2 else 3 + chance.gauss(0, 0.02)
        for values in itertools.product(*VALUES.values())
    }
    settings = {"max_runs": chance.choice([1, 5, 9, 17, 500]), "max_waves": chance.choice([1, 2, 3, 32])}
    search, start = make(**settings), chance.choice(list(noise))
    losses, waves = searched(search, noise.get, start)
    assert len(losses) <= search.max_runs
    assert len(waves) <= search.max_waves
    found = certificate(search, AXES, start, losses)
    if found["ended"] == "diverged":
        assert all(map(math.isinf, losses.values()))
        assert not found["certified"]
        return
    centre = Point(**found["centre"])
    assert found["loss"] == noise[centre] == min(losses.values())
    assert found["certified"] == all(losses.get(point, -1) >= noise[centre] for point in neighbours(centre))
    assert (found["ended"] == "certificate") <= found["certified"]
    if not found["certified"]:
        assert found["ended"] in ("budget", "waves")
        assert found["missing"]


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_diverged_point_loses_and_the_search_goes_on(bad):
    def loss(point):
        return bad if point.lr >= 0.01 else bowl(1, 3, 2, 1)(point)

    losses, _ = searched(make(), loss)
    found = certificate(make(), AXES, START, losses)
    assert places(Point(**found["centre"])) == (1, 3, 2, 1)
    assert found["certified"]
    (diverged,) = [row for row in found["neighbours"] if row["state"] == "diverged"]
    assert (diverged["axis"], diverged["point"]["lr"], diverged["loss"]) == ("lr", 0.01, None)


def test_from_a_start_that_diverges_it_goes_down_in_learning_rate():
    start = START._replace(lr=0.03)
    losses, waves = searched(make(), lambda p: math.inf if p.lr > 0.002 else bowl(0, 2, 3, 1)(p), start)
    found = certificate(make(), AXES, start, losses)
    assert found["centre"]["lr"] == 0.001
    assert found["certified"]
    assert len(waves) == 4


def test_where_everything_diverges_nothing_is_certified():
    losses, _ = searched(make(), lambda point: math.nan)
    found = certificate(make(), AXES, START, losses)
    assert found["ended"] == "diverged"
    assert (found["certified"], found["loss"], found["margin"]) == (False, None, None)
    assert found["centre"]["lr"] == 0.001


def test_a_budget_ends_it_in_the_middle_of_a_wave_with_the_best_so_far():
    losses, waves = searched(make(max_runs=12), bowl(1, 2, 0, 1))
    found = checked(make(max_runs=12), losses)
    assert [len(wave) for wave in waves] == [9, 3]
    assert (found["ended"], found["certified"]) == ("budget", False)
    assert found["centre"]["epochs"] == 4, "the best of the first wave: the second did not come to 2"
    assert {row["state"] for row in found["neighbours"]} == {"ran", "not run"}


def test_waves_end_it_at_the_best_so_far():
    losses, waves = searched(make(max_waves=2), bowl(1, 2, 0, 1))
    found = checked(make(max_waves=2), losses)
    assert len(waves) == 2
    assert (found["ended"], found["certified"], found["centre"]["epochs"]) == ("waves", False, 2)


def test_a_search_that_ends_with_its_last_wave_or_run_is_certified():
    losses, waves = searched(make(), bowl(1, 2, 2, 1))
    same = make(max_runs=len(losses), max_waves=len(waves))
    assert searched(same, bowl(1, 2, 2, 1))[0] == losses
    assert checked(same, losses)["ended"] == "certificate"


def test_of_equal_losses_the_cheaper_wins_then_the_first_on_the_axes():
    found = certificate(make(), AXES, START, _flat(make()))
    assert Point(**found["centre"]) == Point(0.001, 0.1, 1, 0.5)
    same = make(epochs=[8], f=[0.75])
    assert Point(**certificate(same, AXES, START, _flat(same))["centre"]) == Point(0.001, 0.1, 8, 0.75)


def test_a_grid_is_one_wave_of_every_combination_and_its_best_is_certified():
    search = make(method="grid", max_waves=1)
    losses, waves = searched(search, bowl(3, 0, 5, 2))
    assert [len(wave) for wave in waves] == [4 * 5 * 6 * 3]
    assert waves[0][0] == START
    assert checked(search, losses)["certified"]
    whole, waves = searched(Search(**VALUES, method="grid"), bowl(3, 0, 5, 2))
    assert len(whole) == 4 * 5 * 6 * 3, "no bound unless one is asked for"
    cut = make(method="grid", max_runs=10)
    losses, waves = searched(cut, bowl(3, 0, 5, 2))
    assert [len(wave) for wave in waves] == [10]
    assert checked(cut, losses)["ended"] == "budget"


@pytest.mark.parametrize("seed", range(10))
def test_a_wave_cut_off_anywhere_is_finished_and_the_search_takes_the_same_way(seed):
    chance, search = random.Random(seed), make(max_runs=20)
    whole, waves = searched(search, bowl(2, 4, 0, 2))
    losses = {}
    while missing := next_points(search, AXES, START, losses):
        for point in chance.sample(missing, chance.randint(1, len(missing))):
            losses[point] = bowl(2, 4, 0, 2)(point)
    assert losses == whole
    assert walk(search, AXES, START, losses).waves == tuple(map(tuple, waves))
