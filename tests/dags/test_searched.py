"""The Dag of a study that searches: waves of mapped runs, then the final ones, then what judges them."""

from __future__ import annotations

import pytest
import yaml

from palimpsest.lake import REPOSITORY
from palimpsest_airflow.local.pools import pools
from tests.dags.test_graph import picture

SEARCH = {"lr": [1e-3, 3e-3, 1e-2], "epochs": [4, 8, 16], "max_waves": 3}
PROBE = {"model": {"layers": 1, "width": 32, "mlp": 64, "heads": 2}, "steps": 100}
RATED = {"methods": ["meta_rater"], "meta_rater": PROBE | {"proxies": 8}}
QUESTIONS = {"quiz": {"file": "questions.jsonl"}}


@pytest.fixture(scope="module")
def searched(parse, tmp_path_factory) -> dict:
    """The demo study; the same with a search, with a grid, with ensembles and tasks, and with all of them."""
    folder = tmp_path_factory.mktemp("searched")
    demo = yaml.safe_load((REPOSITORY / "dags" / "studies" / "demo.yaml").read_text())
    judging = {"ensembles": ["simple"], "tasks": QUESTIONS}
    for name, more in {
        "demo": {},
        "waves": {"search": SEARCH},
        "grid": {"search": SEARCH | {"method": "grid"}},
        "judged": {"judging": judging},
        "both": {"search": SEARCH, "judging": judging},
        "rated": {"selection": RATED},
        "probed": {"guard": demo.get("guard", {}) | {"probe": PROBE}},
    }.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(demo | {"name": name} | more))
    found = parse(PALIMPSEST_STUDIES=str(folder))
    assert found["errors"] == {}
    return found["dags"]


def tasks(searched: dict, name: str) -> dict:
    return picture(searched[f"study_{name}"])["tasks"]


def test_a_study_without_search_has_the_shape_it_always_had(searched):
    plain = ["plan", "generate", "collect", "build", "gate", "waive", "tokenize", "train", "report"]
    assert sorted(tasks(searched, "demo")) == sorted(plain)
    assert tasks(searched, "demo")["tokenize"]["then"] == ["report", "train"]


def test_a_study_with_a_neural_probe_trains_it_before_its_gate(searched):
    found, plain = tasks(searched, "probed"), tasks(searched, "demo")
    assert found.keys() - plain.keys() == {"probe"}
    assert (found["probe"]["pool"], found["probe"]["then"]) == ("train", ["gate"])
    assert found["build"]["then"] == ["probe"]


def test_a_study_that_weighs_scores_trains_its_proxies_as_mapped_tasks_before_it_scores(searched):
    found, plain = tasks(searched, "rated"), tasks(searched, "demo")
    assert found.keys() - plain.keys() == {"rate", "proxy", "select"}
    assert found["rate"]["then"] == ["proxy"]
    assert (found["proxy"]["mapped"], found["proxy"]["pool"], found["proxy"]["then"]) == (True, "train", ["select"])
    assert set(found["collect"]["then"]) == {"rate", "select"}
    assert found["select"]["then"] == ["build"]
    text, other = (searched[f"study_{name}"]["doc_md"] for name in ("rated", "demo"))
    assert "raters, proxies/<number>, scores/<method>, selection, alignment" in text
    assert "`proxy`: a mapped row is one of the small models" in text
    assert "prox" not in other


def test_a_search_is_waves_one_after_the_other_and_a_choice_after_all_of_them(searched):
    found, plain = tasks(searched, "waves"), tasks(searched, "demo")
    waves = {f"search.{task}_{number}" for number in (1, 2, 3) for task in ("decide", "train")}
    assert found.keys() - plain.keys() == {*waves, "search.choose"}
    assert plain.keys() - found.keys() == set()
    for number in (1, 2, 3):
        decide, train = found[f"search.decide_{number}"], found[f"search.train_{number}"]
        assert (decide["mapped"], train["mapped"], train["pool"]) == (False, True, "train")
        assert decide["then"] == [f"search.train_{number}"]
        later = [f"search.decide_{number + 1}"] if number < 3 else []
        assert train["then"] == ["search.choose", *later]
        assert "trigger_rule" not in decide, "a wave that is skipped takes the rest of them along"
        assert "trigger_rule" not in train
    assert {"search.decide_1", "search.choose"} <= set(found["tokenize"]["then"])
    assert found["search.choose"]["trigger_rule"] == "none_failed"
    assert found["search.choose"]["then"] == ["report", "train"]
    assert found["train"] == plain["train"]
    assert found["report"] == plain["report"]


def test_a_grid_is_one_wave(searched):
    found = tasks(searched, "grid")
    assert {name for name in found if name.startswith("search.")} == {
        "search.decide_1", "search.train_1", "search.choose",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["judged", "both"])
def test_what_judges_the_runs_stands_between_training_and_report(searched, name):
    found, other = tasks(searched, name), tasks(searched, {"judged": "demo", "both": "waves"}[name])
    assert found.keys() - other.keys() == {"plan_judging", "judge"}
    assert found["train"]["then"] == ["plan_judging", "report"]
    assert found["plan_judging"]["then"] == ["judge"]
    assert found["judge"] == {"pool": "train", "mapped": True, "outlets": [], "then": ["report"]}


def test_its_tasks_keep_the_rules_of_all_dags(searched):
    for dag in searched.values():
        for task in (entry["__var"] for entry in dag["tasks"]):
            found = {**dag["default_args"]["__var"], **task, **task.get("partial_kwargs", {})}
            assert found["retries"] >= 1
            assert found["doc_md"]
            assert found.get("pool", "default_pool") in {"default_pool", *pools()}
            assert bool(task.get("_is_mapped")) <= bool(found.get("map_index_template"))


def test_the_page_of_a_searched_study_says_what_its_waves_are(searched):
    text, plain = (searched[f"study_{name}"]["doc_md"] for name in ("waves", "demo"))
    assert "in waves of runs (group *search*)" in text
    assert "`search.choose`: all points of a mix diverged" in text
    assert "search" not in plain
