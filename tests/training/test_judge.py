from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import yaml

from palimpsest.config import Study
from palimpsest.lake import LakeError
from tests.training.conftest import make_study
from tests.training.judged import publish_run
from training import downstream, ensemble, judge
from training.__main__ import main


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


@pytest.fixture
def by_hand(lake, small, store, tmp_path, monkeypatch):
    """Writes the small study, with this 'judging', where the command line finds it."""
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "sample.yaml").touch()
    monkeypatch.setenv("PALIMPSEST_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def write(**judging) -> None:
        content = small.study.model_dump(mode="json") | {"judging": {"facts": 0, **judging}}
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))

    return write


def test_by_hand_everything_is_judged_in_turn_and_only_what_is_missing_again(
    by_hand, small, lake, capsys, caplog, monkeypatch
):
    by_hand(ensembles=["simple"], contexts=["iid"])
    assert main(["train", "small", "simple-s0", "simple-s1", "real-s1"]) == 0
    capsys.readouterr()
    assert main(["judge", "small"]) == 1
    told = "1 of the 4 runs to judge are not published: real-s0; run: python -m training train small"
    assert told in capsys.readouterr().err
    assert lake.children("studies/small/ensembles") == lake.children("studies/small/contexts") == []

    assert main(["train", "small", "real-s0"]) == 0
    capsys.readouterr()
    with caplog.at_level(logging.INFO):
        assert main(["judge", "small"]) == 0
    assert "1 of 5: ensemble simple" in caplog.text and "5 of 5: contexts " in caplog.text
    names = ["ensembles/simple", *(f"contexts/{recipe}-s{seed}" for seed in (0, 1) for recipe in ("simple", "real"))]
    made = {name: lake.latest(f"studies/small/{name}") for name in names}
    first, lost = judge.seconds(small.study), made["contexts/real-s0"].uri
    assert first.keys() == {published.uri for published in made.values()} and all(first.values())
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(published.uri for published in made.values())
    assert lake.latest("studies/small/runs/real-s0").digest in {
        parent["digest"] for parent in made["contexts/real-s0"].manifest["parents"]
    }

    shutil.rmtree(Path(lake.base, "studies", "small", "contexts", "real-s0"))
    monkeypatch.setattr(ensemble, "_member", None)  # nobody asks a member again
    assert main(["judge", "small"]) == 0
    assert capsys.readouterr().out.split() == printed
    assert lake.latest("studies/small/contexts/real-s0").digest == made["contexts/real-s0"].digest
    assert judge.seconds(small.study) == first | {lost: pytest.approx(first[lost], rel=20)}
    assert judge.seconds(small.study)[lost] != first[lost]


def test_by_hand_a_study_without_judging_has_nothing_to_judge(by_hand, capsys, caplog):
    by_hand()
    with caplog.at_level(logging.INFO):
        assert main(["judge", "small"]) == 0
    assert "study small asks for no ensembles, contexts or tasks under 'judging'" in caplog.text
    assert capsys.readouterr().out == ""
