"""What a run of the testbed leaves: datasets that are not made twice, a run in MLflow per arm, and the page."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from palimpsest.lake import Lake
from training import track
from training.analysis import testbed, testbed_checks, testbed_digits, testbed_figures, testbed_tables
from training.meta.diagnosis import LEAST_EFFECTIVE
from training.testbeds import stage
from training.testbeds.digits import data as digits
from training.testbeds.digits import noise, quality
from training.testbeds.digits.arms import ASKED, OTHERS, Bench, recipes
from training.testbeds.digits.data import SORTS
from training.testbeds.digits.parts import TESTBED
from training.testbeds.digits.weighing import Recipe


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Rows in place of what takes minutes; the calls that made them."""
    calls = []

    def rows(part: str, seed: int) -> stage.Tables:
        calls.append((part, seed))
        if part == "quality":
            told = {quality.POSITION: 0.99, quality.DYNAMICS: 0.8, quality.TOLD: 0.7, "loss_3": 0.7, "loss_60": 0.5}
            return {"quality": [{"seed": seed, "feature": name, "auroc": value} for name, value in told.items()]}
        if part == "noise":
            sizes = {16: 0.1, 32: 0.2, 64: 0.4, 256: 1.6, 512: 3.2, 2048: 1.7}
            return {
                "noise": [
                    {"seed": seed, "state": state, "meta": n, "ratio": ratio, "effective": n / 10}
                    for state in (noise.EVEN_ALL, noise.EVEN_FEW, noise.PEAKED_ALL)
                    for n, ratio in sizes.items()
                ]
            }
        columns = ("retrained", "online", "stopped", "auroc", "share", "cpu_seconds")
        arms = {"MTS 1024/1024, floor": 0.9, "MTS 1024/128": 0.6, "loss alone 1024/1024": 0.8}
        if part == "simple":
            arms = {"no selection": 0.65}
        looks = {"mts/gsnr": 0.1, "mts/effective": 400.0} | {f"mts/weight_{sort}": 1.0 for sort in SORTS}
        return {
            "arms": [
                {"arm": arm, "seed": seed, **dict.fromkeys(columns, value), "alarms": 0} for arm, value in arms.items()
            ],
            "trace": [{"arm": "MTS 1024/1024, floor", "seed": seed, "step": step, **looks} for step in (20, 40)],
            "carried": [{"arm": "MTS 1024/1024, floor", "seed": seed, "feature": "real_nn1", "lost": 0.1}],
        }

    for part in ("quality", "noise", "simple", "learned"):
        monkeypatch.setitem(
            TESTBED.parts, part, stage.Part(lambda seed, part=part: rows(part, seed), ("training/meta",))
        )
    monkeypatch.setenv("PALIMPSEST_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr(testbed, "REPOSITORY", tmp_path)
    (tmp_path / "docs" / "results").mkdir(parents=True)
    return calls


def test_a_run_measures_what_is_missing_and_the_page_has_all_that_there_is(measured, tmp_path):
    parts = ("quality", "noise", "simple", "learned")
    page = stage.main(TESTBED, 1, parts)
    assert measured == [(part, 0) for part in parts]
    assert page == tmp_path / "docs" / "results" / "testbed_digits.md"
    told = page.read_text()
    assert "acceptance figures are met over 1 seed" in told
    assert "MTS 1024/128 without a floor rings the alarm (0 of 1 seeds)" in told
    for name in ("noise", "weights", "features"):
        assert f"testbed_digits/{name}.png" in told
        assert (page.parent / "testbed_digits" / f"{name}.png").stat().st_size > 1000
    stage.main(TESTBED, 2, ("quality", "simple"))
    assert measured[4:] == [("quality", 1), ("simple", 1)]
    told = page.read_text()
    assert "| no selection | 0.650 ± 0.000 |" in told
    stage.main(TESTBED, 1, parts)
    assert len(measured) == 6
    assert page.read_text() == told, "one seed does not replace the page of two"
    assert stage.publish(Lake.from_env(), TESTBED, "simple", 0).extra["cpu_seconds"] >= 0


def test_what_earlier_code_measured_is_named_and_not_on_the_page(measured, monkeypatch):
    stage.main(TESTBED, 2, ("quality", "noise", "simple", "learned"))
    monkeypatch.setitem(TESTBED.parts, "simple", replace(TESTBED.parts["simple"], code=("training/meta/bilevel.py",)))
    with pytest.raises(ValueError, match="part 'simple' of the testbed is not measured yet"):
        stage.report(Lake.from_env(), TESTBED)
    told = stage.main(TESTBED, 1, ["simple"]).read_text()
    assert measured[8:] == [("simple", 0)]
    missing = "Not here, because this code has not measured it on the data that is here: "
    missing += "simple of seed 1; batches of seeds 0, 1."
    assert told.split("\n\n")[2] == missing
    assert "over 2 seeds" in told.split("\n\n")[1], "the other parts are of this code"
    stage.main(TESTBED, 2, ["simple"])
    assert "simple of seed" not in stage.main(TESTBED, 2, ["simple"]).read_text()


def test_the_page_knows_states_features_arms_and_sorts_by_their_names():
    drawn = digits.draw(0)
    bench, arms = Bench(drawn, torch.zeros(len(drawn.pool), 0), [], 0), set()
    bench.add = lambda name, work: arms.add(name)  # names alone: nothing is trained
    bench.simple()
    arms |= recipes((*ASKED, *OTHERS)).keys()
    assert {testbed_checks.FLOORED, testbed_checks.LOSS} <= recipes(ASKED).keys()
    assert {testbed_checks.SHARP, testbed_checks.ALL, *testbed_digits.BATCHES} <= arms
    assert {arm for pair in testbed_tables.PAIRS for arm in pair[:2]} <= arms
    states = testbed_checks.EVEN_ALL, testbed_checks.EVEN_FEW, testbed_checks.PEAKED
    assert states == (noise.EVEN_ALL, noise.EVEN_FEW, noise.PEAKED_ALL)
    together = testbed_checks.POSITION, testbed_checks.DYNAMICS, testbed_checks.TOLD
    assert together == (quality.POSITION, quality.DYNAMICS, quality.TOLD)
    assert testbed_digits.SORTS == digits.SORTS
    assert testbed_figures.LEAST_EFFECTIVE == LEAST_EFFECTIVE


def test_a_page_without_its_parts_names_what_is_missing(measured):
    with pytest.raises(ValueError, match="part 'noise' of the testbed is not measured yet"):
        stage.main(TESTBED, 1, ("quality",))


@pytest.mark.usefixtures("store")
def test_every_look_at_learned_weights_is_in_mlflow_once(monkeypatch):
    from mlflow import MlflowClient

    for last in (0.2, 0.3):
        with stage.watch(TESTBED.name, TESTBED.about, 4)("MTS 64/64", asdict(Recipe(64, 64))) as tell:
            tell({"mts/gsnr": 0.1, "mts/share": 0.5}, 20)
            tell({"mts/gsnr": last}, 40)
    client = MlflowClient(track.tracking_uri())
    experiment = client.get_experiment_by_name("testbed_digits")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("MTS 64/64, seed 4", "FINISHED")
    assert run.data.params["floor"] == "0.05"
    assert [point.value for point in client.get_metric_history(run.info.run_id, "mts/gsnr")] == [0.1, 0.3]
