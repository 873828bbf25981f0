"""The page of the testbed of digits, of rows whose answers are known."""

from __future__ import annotations

import pytest

from training.analysis.testbed_checks import (
    DYNAMICS,
    EVEN_ALL,
    EVEN_FEW,
    FLOORED,
    LOSS,
    PEAKED,
    POSITION,
    SHARP,
    TOLD,
    checks,
)
from training.analysis.testbed_digits import headline, render
from training.analysis.testbed_tables import PAIRS

SEEDS = range(3)


@pytest.fixture
def tables():
    """What meets every figure: GSNR of 0.01 for each effective example when peaked, and so on."""
    noise = []
    for seed in SEEDS:
        for meta in (16, 32, 64, 128, 256, 512, 1024):
            gsnr = {EVEN_ALL: meta / 32, EVEN_FEW: 0.5, PEAKED: 0.01 * meta * 0.08 * (1 + 0.1 * seed)}
            noise += [
                {"seed": seed, "state": state, "meta": meta, "ratio": ratio, "effective": 0.08 * meta}
                for state, ratio in gsnr.items()
            ]
        noise.append({"seed": seed, "state": EVEN_FEW, "meta": 2048, "ratio": 0.6, "effective": 2048.0})
    told = {POSITION: 0.99, DYNAMICS: 0.8, TOLD: 0.6, "loss_3": 0.7, "loss_60": 0.5}
    quality = [{"seed": seed, "feature": name, "auroc": value} for seed in SEEDS for name, value in told.items()]
    arms = {name: (0.85, 0.86, 0.7, 1) for pair in PAIRS for name in pair[:2]}
    arms |= {"no selection": (0.65, None, None, None), LOSS: (0.7, 0.8, 0.6, 0), FLOORED: (0.9, 0.91, 0.9, 0)}
    arms[SHARP] = (0.8, 0.5, 0.8, 20)
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "retrained": retrained + 0.01 * seed,
            "online": online and online + 0.01 * seed,
            "stopped": online,
            "auroc": auroc,
            "share": online and 0.3,
            "alarms": alarms,
            "cpu_seconds": 2.0,
        }
        for seed in SEEDS
        for arm, (retrained, online, auroc, alarms) in arms.items()
    ]
    return {"noise": noise, "quality": quality, "arms": rows, "trace": [], "carried": []}


def test_figures_that_are_met_are_said_to_be(tables):
    found = checks(tables)
    assert [check.asked for check in found if not check.holds] == []
    assert headline(tables) == f"{len(found)} of {len(found)} acceptance figures are met over 3 seeds."
    by_name = {check.asked.split(":")[0]: check.found for check in found}
    assert by_name["5a (i) log GSNR on log N, 16 to 512, peaked"] == "1.000 (1.000 to 1.000)"
    every, told = by_name["5b position less dynamics, every column ≥ 0.1"].split("; of the three that MTS is told ")
    assert (every, told) == ("0.190 (0.190 to 0.190)", "0.390 (0.390 to 0.390)"), "both, of which the first decides"
    assert by_name["5a (iv) GSNR of 2048 over 256, even, 32 of validation"] == "1.20 (1.20 to 1.20)"


@pytest.mark.parametrize(
    ("table", "wanted", "changed", "said"),
    [
        ("noise", {"state": PEAKED, "meta": 1024}, {"ratio": 0.01}, "(ii)"),
        ("noise", {"state": EVEN_ALL, "meta": 64}, {"ratio": 0.06}, "(iii)"),
        ("noise", {"meta": 2048}, {"ratio": 5.0}, "(iv)"),
        ("quality", {"feature": "loss_60"}, {"auroc": 0.65}, "less after 60"),
        ("quality", {"feature": DYNAMICS}, {"auroc": 0.95}, "position less dynamics, every column"),
        ("arms", {"arm": FLOORED, "seed": 2}, {"online": 0.99}, "standard deviation"),
        ("arms", {"arm": FLOORED}, {"online": 0.84}, "less loss alone"),
        ("arms", {"arm": SHARP, "seed": 1}, {"alarms": 0}, "rings the alarm (2 of 3 seeds)"),
    ],
)
def test_one_that_is_missed_is_named_with_what_was_found(tables, table, wanted, changed, said):
    for row in tables[table]:
        if wanted.items() <= row.items():
            row.update(changed)
    missed = [check.asked for check in checks(tables) if not check.holds]
    assert len(missed) == 1
    assert said in headline(tables).split("not: ")[1]


def test_differences_are_paired_by_the_seeds_that_both_arms_have(tables):
    tables["arms"] = [row for row in tables["arms"] if row["arm"] != "MTS 64/64" or row["seed"] == 1]
    page = render(tables, [], [])
    assert "| MTS 1024/1024 less MTS 64/64 | +0.000 | +0.000 |" in page
    assert "| no selection | 0.660 ± 0.010 | – | – | – | 3 | – | – | 2.0 |" in page
    assert "met | " not in page.split("## Arms")[0].replace("| met |", "")
