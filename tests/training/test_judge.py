from __future__ import annotations

import json

import pytest

from palimpsest.config import Study
from palimpsest.lake import LakeError
from tests.training.conftest import make_study
from tests.training.judged import publish_run
from training import downstream, judge


def judged(**judging):
    found = make_study().model_dump(mode="json") | {"judging": judging}
    found["training"]["reference_shares"] = [0.5]
    found["training"]["seeds"] = [4, 1]
    return Study.model_validate(found)


def final(*names):
    return [{"run": f"{recipe}-s{seed}", "recipe": recipe, "seed": seed} for recipe in names for seed in (1, 4)]


def test_an_order_per_ensemble_and_per_run_of_a_mix_in_the_order_of_the_seeds(monkeypatch):
    monkeypatch.setattr(downstream, "require", lambda study: None)
    study = judged(ensembles=["simple"], tasks={"arc": {"file": "arc.jsonl"}})
    refs = {"tokens": {"uri": "u", "digest": "d"}}
    orders = judge.plan_judging(study, final("real", "simple", "real_0p5"), refs)
    assert [(order["judge"], order["name"], order["runs"]) for order in orders] == [
        ("ensemble", "simple", ["simple-s4", "simple-s1"]),
        ("tasks", "real-s4", ["real-s4"]),
        ("tasks", "simple-s4", ["simple-s4"]),
        ("tasks", "real-s1", ["real-s1"]),
        ("tasks", "simple-s1", ["simple-s1"]),
    ]
    assert json.loads(json.dumps(orders)) == orders
    assert all(order["refs"] == refs for order in orders)


def test_a_study_without_judging_has_no_orders():
    assert judge.plan_judging(judged(), final("real", "simple"), {}) == []


def test_an_order_is_done_with_its_own_runs(lake, small):
    runs = [publish_run(lake, small, f"simple-s{seed}", seed=seed) for seed in (0, 1)]
    runs.append(publish_run(lake, small, "real-s0", recipe="real", seed=5))
    (order,) = judge.plan_judging(
        Study.model_validate(small.study.model_dump() | {"judging": {"ensembles": ["simple"]}}),
        [{"run": f"simple-s{seed}", "recipe": "simple", "seed": seed} for seed in (0, 1)],
        {},
    )
    published = judge.judge(small.study, lake, tokens=small.tokens, runs=runs, order=order)
    assert published.dataset == "studies/small/ensembles/simple"
    assert published.extra["members"] == ["simple-s0", "simple-s1"]


def test_a_run_that_is_not_there_is_named(lake, small):
    order = {"judge": "ensemble", "name": "simple", "runs": ["simple-s0", "simple-s1"]}
    runs = [publish_run(lake, small, "simple-s0")]
    with pytest.raises(LakeError, match="ensemble simple: run simple-s1 is not published"):
        judge.judge(small.study, lake, tokens=small.tokens, runs=runs, order=order)
