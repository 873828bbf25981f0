"""The page of all testbeds side by side."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from palimpsest.lake import Facts, Lake
from training.analysis import testbed, testbed_all
from training.testbeds.digits import data
from training.testbeds.digits.arms import ASKED, OTHERS, Bench, recipes
from training.testbeds.docs import arms, baselines, learned, rated, settings
from training.testbeds.docs.influence import NAME as INFLUENCE
from training.testbeds.registry import TESTBEDS, overview

PERPLEXITY = {
    "random": (200.0, 210.0),
    "oracle": (100.0, 105.0),
    "everything": (90.0, 95.0),
    "rank average": (150.0, 150.0),
    "MTS 1024": (160.0, 189.0),
}
ACCURACY = {"random": 0.6, "no selection": 0.65, "MTS 1024/1024, floor": 0.9, "Aux-Clf(Val), ranked": 0.93}


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setattr(testbed, "REPOSITORY", tmp_path)
    (tmp_path / "docs" / "results").mkdir(parents=True)
    return Lake(tmp_path / "lake")


def part(lake: Lake, name: str, rows: list[dict]):
    def write(folder):
        pq.write_table(pa.Table.from_pylist(rows), folder / "arms.parquet")
        return Facts()

    return lake.publish(f"testbeds/{name}/simple", write, config={"rows": len(rows)})


@pytest.fixture
def measured(lake):
    texts = [
        {"arm": arm, "seed": seed, "perplexity": own}
        for arm, both in PERPLEXITY.items()
        for seed, own in enumerate(both)
    ]
    digits = [{"arm": arm, "seed": 0, "retrained": own} for arm, own in ACCURACY.items()]
    none: tuple[list, str] = ([], "")
    return {
        "digits": ([part(lake, "digits", digits)], ""),
        "docs": ([part(lake, "docs", texts)], "Not here: mts of seed 7."),
        "web": none,
        "translations": none,
    }


def test_every_way_is_held_against_as_many_by_lot_seed_by_seed(lake, measured, tmp_path):
    page = testbed.copied(testbed_all.report(lake, measured))
    told = page.read_text()
    assert page == tmp_path / "docs" / "results" / "selection.md"
    assert (page.parent / "selection" / "gains.png").stat().st_size > 1000
    lines = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in told.splitlines() if "|" in line
    }
    assert lines["MTS, N = 1024"][0] == "+30.0, 1 of 10 seeds", "points of accuracy"
    # 1 - 160/200 and 1 - 189/210: 20 and 10%; half width 12.706 * sqrt(50) / sqrt(2)
    assert lines["MTS, N = 1024"][1] == "+15.0 (-48.5 to +78.5), 2 of 5 seeds"
    assert lines["oracle"][1].startswith("+50.0 (+50.0 to +50.0)")
    assert lines["MTS, N = 1024"][2].startswith("–")
    assert "influence" not in lines, "what no testbed has measured has no line"
    assert "docs: Not here: mts of seed 7." in told
    assert "web: not measured yet." in told


def test_margins_are_paired_and_the_best_other_way_is_none_of_mts(lake, measured):
    found = {name: testbed_all.gains(name, testbed_all._arms(parts)) for name, (parts, _) in measured.items()}
    digits, docs = testbed_all.margins(found)
    assert (digits["testbed"], digits["best"]) == ("digits", "Aux-Clf(Val)")
    assert digits["none"] == pytest.approx([25])
    assert digits["less"] == pytest.approx([-3])
    assert docs["best"] == "rank average", "neither the oracle, nor all of it"
    assert docs["less"] == pytest.approx([20 - 25, 10 - 100 * (1 - 150 / 210)])
    assert testbed_all.headline(found) == (
        "Best of as many examples, against as many by lot: digits: Aux-Clf(Val) +33.0 (MTS +30.0); "
        "docs: rank average +26.8 (MTS +15.0)."
    )


def test_a_seed_without_chance_and_an_arm_without_seeds_say_nothing():
    rows = [{"arm": arm, "seed": seed, "perplexity": 100.0} for arm, seed in (("random", 0), ("MTS 1024", 1))]
    own = testbed_all.gains("docs", rows)
    assert own == {}
    assert testbed_all.margins({"docs": own}) == []


def test_what_is_not_measured_at_all_is_a_page_too(lake):
    told = testbed.copied(overview(lake)).read_text()
    assert "**Nothing is measured yet.**" in told
    assert all(f"{name}: not measured yet." in told for name in TESTBEDS)


def test_ways_are_arms_of_the_testbeds(bench_of_digits):
    """The page cannot import them: they load torch."""
    digits = {own for own, _ in testbed_all.WAYS.values() if own}
    assert digits < {*bench_of_digits, *recipes((*ASKED, *OTHERS))}
    assert {"MTS 1024/128", "MTS 64/1024, floor"} == set(recipes((*ASKED, *OTHERS))) - digits
    weighed = {f"{name} {count}" for name in learned.NAMES.values() for count in learned.TEXTS}
    matched = {f"PVM, alpha {alpha:g}" for alpha in settings.ALPHAS}
    cheap = {arms.ORACLE, arms.EVERYTHING, arms.RANK, *arms.CHEAP}
    assert {own for _, own in testbed_all.WAYS.values() if own} == {
        *weighed, *matched, *cheap, rated.NAME, INFLUENCE, baselines.REWEIGHTED,
    }  # fmt: skip
    assert testbed_all.ASKED.keys() == TESTBEDS.keys()


@pytest.fixture
def bench_of_digits(monkeypatch) -> list[str]:
    """Names of the simple arms; nothing is measured."""
    names = []
    monkeypatch.setattr(Bench, "add", lambda self, name, work: names.append(name))
    monkeypatch.setattr("training.testbeds.digits.arms.reweight", lambda *given: None)
    monkeypatch.setattr(Bench, "weighed", lambda self, name, found: None)
    drawn = data.draw(0)
    Bench(drawn, torch.zeros(len(drawn.pool), 0), [], 0).simple()
    return names
