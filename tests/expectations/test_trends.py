"""Figures that no text has to be read for, and those of trained models, in the guard's history."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from expectations import measure
from expectations.guard import dashboard
from expectations.guard.history import publish_history
from expectations.guard.models import GENERATOR
from palimpsest.lake import Facts
from tests.expectations.defects import change


def figures(world, found):
    of = {"generations": "generations", "generation_drops": "generations", "mix_shares": "mixes"}
    connection = measure.connect({name: found[stage] for name, stage in of.items()})
    return {(r["metric"], r["strategy"]): r["value"] for r in dashboard.figures(connection, world.study)}


def test_real_shares_models_behind_a_layout_and_what_the_review_let_through(world):
    found = figures(world, world.publish())
    assert found["real_share", "real"] == 1
    assert found["real_share", "stitched"] == pytest.approx((896 + 2688 * 101 / 253) / 3584)
    assert found["real_share_least", "stitched"] == pytest.approx(found["real_share", "stitched"])
    assert found["generators", "stitched"] == pytest.approx(1)
    assert found["accepted", "rephrase"] == pytest.approx(18 / 19)


def test_two_models_of_equal_shares_count_as_two_and_unreviewed_text_is_not_accepted(world):
    def spoil(rows):
        for number, row in enumerate(rows):
            row |= {"model": "ab"[number % 2], "verdict": "not_reviewed"}
        return rows

    found = figures(world, world.publish(change("generations", spoil)))
    assert found["generators", "stitched"] == pytest.approx(2)
    assert found["accepted", "rephrase"] == 0, "the one that was reviewed was dropped"
    assert dashboard.effective_count([3, 1]) == pytest.approx(1.7548, abs=1e-4)


def test_the_newest_models_stand_beside_that_of_real_text_and_drift_is_said(world):
    lake = world.lake

    def empty(directory):
        return Facts()

    def train(day: str, **ece: float) -> None:
        mixes = lake.publish("studies/toy/mixes", lambda d: written(d, day), config={"day": day})
        extra = {"data_until": day}
        lake.publish("studies/toy/gate", lambda d: Facts(extra=extra), config={"day": day}, parents=[mixes])
        tokens = lake.publish("studies/toy/tokens", empty, config={"day": day}, parents=[mixes])
        for run, value in ece.items():
            recipe = run.rsplit("_", 1)[0]
            sure = {"ece": value, "error": 0.004}
            facts = {"real": {"share": 0.5, "error": 0.02}, "held_out": {"share": None, "error": None}}
            told = {"recipe": recipe, "calibration": sure, "facts": facts}
            lake.publish(f"studies/toy/signs/{run}", lambda d, told=told: Facts(extra=told), config={"ece": value},
                         parents=[tokens])  # fmt: skip

    def written(directory, day):
        (directory / "day.txt").write_text(day)
        return Facts()

    train("2026-10-01", real_s0=0.02, stitched_s0=0.03, stitched_s1=0.05)
    first = publish_history(world.study, lake)
    rows = {(r["metric"], r["strategy"]): r for r in pq.read_table(first.file("guard_metrics.parquet")).to_pylist()}
    assert set(rows) == {(metric, mix) for metric in ("ece", "facts_real") for mix in ("real", "stitched")}
    row = rows["ece", "stitched"]
    assert (row["value"], row["real_mean"], row["real_sd"]) == (pytest.approx(0.04), 0.02, 0.004)
    assert row["deviations"] == pytest.approx(5)
    assert row["generator"] == GENERATOR
    assert first.extra["drifts"] == []
    train("2026-10-02", real_s0=0.02, stitched_s0=0.11, stitched_s1=0.13)
    (said,) = publish_history(world.study, lake).extra["drifts"]
    assert said == "ece of mix stitched moved from 0.04 to 0.12 by 2026-10-02, 20.0 deviations of real text"


def test_a_study_of_which_nothing_was_measured_has_no_history(world):
    extra = {"data_until": "2026-10-01"}
    world.lake.publish("studies/toy/gate", lambda d: Facts(extra=extra))
    assert publish_history(world.study, world.lake) is None
