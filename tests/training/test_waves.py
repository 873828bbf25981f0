"""A tiny searched study from documents to its final runs, without Airflow: every number in it is trained."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from palimpsest.config import Study, load_study
from palimpsest.lake import Lake, LakeError, Published
from tests.conftest import GARDEN
from tests.palimpsest.conftest import publish_documents, write_study
from tests.palimpsest.test_mixes import build
from tests.training.conftest import study_content
from training import pretrain, track, waves
from training.__main__ import main
from training.analysis import results
from training.pack import tokenize
from training.points import Point, spent
from training.search import certificate

SEARCH = {"lr": [0.001, 0.01, 1000.0], "epochs": [1, 2, 4], "max_waves": 4}
MIXES = {
    "real": {"layout": "real", "epochs": 2},
    "simple": {"layout": "simple", "f": 0.75, "epochs": 1},
    "stitched": {"layout": "stitched", "f": 0.5, "epochs": 1, "like": "simple"},
    "longer": {"layout": "real", "epochs": 1, "match": {"mix": "simple", "by": "compute"}},
    "fixed": {"layout": "stitched", "f": 0.5, "epochs": 1, "search": False, "training": {"attention": "documents"}},
}
TRAINING = {
    "model": {"layers": 1, "width": 16, "mlp": 32, "heads": 2},
    "optimizer": {"lr": 0.01, "weight_decay": 0.1, "warmup": 0.0},
    "context": 32,
    "batch": 4,
    "block": 8,
    "seeds": [0, 1],
    "reference_shares": [0.5],
    "precision": "fp32",
    "evaluations": 1,
}


@dataclass(frozen=True)
class Made:
    """A study with everything its search reads."""

    study: Study
    lake: Lake
    inputs: dict[str, Published]

    def file(self, **changes) -> None:
        """The study's file with other top-level keys."""
        content = yaml.safe_load(self.study.path.read_text())
        self.study.path.write_text(yaml.safe_dump(content | changes))


@pytest.fixture(scope="module")
def whole(parsed_dbt, empty_store, tmp_path_factory):
    """The study searched once from the command line; tests work on copies of its folder."""
    folder = tmp_path_factory.mktemp("searched")
    shutil.copy(empty_store, folder)
    (folder / "dbt").symlink_to(parsed_dbt)
    (folder / "corpora").mkdir()
    (folder / "corpora" / "sample.yaml").write_text(GARDEN.replace("garden", "sample"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_STATE", str(folder))
        patch.setenv("PALIMPSEST_CORPORA", str(folder / "corpora"))
        patch.setenv("PALIMPSEST_STUDIES", str(folder))
        patch.setenv("PALIMPSEST_LAKE", str(folder / "lake"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        held_out = {"rule": "urls", "urls_file": str(folder / "validation.txt"), "short_max_words": 36}
        held_out["long_min_words"] = 100_000  # the set 'long' is empty
        study = write_study(folder, mixes=MIXES, training=TRAINING, search=SEARCH, validation=held_out)
        lake = Lake.from_env()
        split, mixes = build(study, lake, publish_documents(lake))
        tokenize(study, lake, split=split, mixes=mixes)
        assert main(["search", "small"]) == 0
    return folder


@pytest.fixture
def made(whole, tmp_path, monkeypatch) -> Made:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder, symlinks=True)
    for name, place in {"STATE": "", "CORPORA": "corpora", "STUDIES": "", "LAKE": "lake"}.items():
        monkeypatch.setenv(f"PALIMPSEST_{name}", str(folder / place))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lake = Lake.from_env()
    return Made(load_study("small"), lake, {n: lake.latest(f"studies/small/{n}") for n in ("tokens", "mixes")})


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """The runs that are trained from now on."""
    names = []
    write = pretrain.write_run

    def counted(directory, checkpoints, study, tokens, run, **options):
        names.append(run["run"])
        return write(directory, checkpoints, study, tokens, run, **options)

    monkeypatch.setattr(pretrain, "write_run", counted)
    return names


def points_of(made: Made) -> list[dict]:
    return pq.read_table(made.lake.latest("studies/small/search").file("points.parquet")).to_pylist()


def test_every_searched_recipe_has_a_certificate_that_its_own_runs_bear_out(made):
    """Read anew from each run's evaluation: the reference on half the text has a search of its own."""
    published = made.lake.latest("studies/small/search")
    assert published.extra["certificates"].keys() == {"real", "real_0p5", "simple"}
    for recipe, found in published.extra["certificates"].items():
        losses = {}
        for row in points_of(made):
            if row["recipe"] != recipe:
                continue
            point = Point(row["lr"], row["weight_decay"], row["epochs"], row["f"])
            if row["diverged"]:
                losses[point] = float("inf")
                continue
            evaluation = json.loads(made.lake.open(row["uri"]).file("evaluation.json").read_text())
            assert (evaluation["recipe"], evaluation["seed"], evaluation["steps"]) == (recipe, 0, row["steps"])
            losses[point] = evaluation["losses"]["iid"]
            assert row["loss_iid"] == losses[point]
            assert row["loss_short"] == evaluation["losses"]["short"] != losses[point]
            assert row["loss_long"] is None
        assert (found["ended"], found["certified"]) == ("certificate", True)
        assert found["loss"] == min(losses.values())
        centre = Point(**found["centre"])
        assert losses[centre] == found["loss"]
        for axis in ("lr", "epochs"):
            place = SEARCH[axis].index(getattr(centre, axis))
            for near in SEARCH[axis][max(0, place - 1) : place + 2]:
                assert losses[centre._replace(**{axis: near})] >= found["loss"]
        assert found == json.loads(
            json.dumps(certificate(made.study.search, ("lr", "epochs"), Point(**found["start"]), losses))
        )


def test_a_point_that_diverged_is_on_record_and_the_search_went_on(made):
    diverged = [row for row in points_of(made) if row["diverged"]]
    assert {row["lr"] for row in diverged} == {1000.0}
    assert all(row["uri"].startswith("studies/small/diverged/") and row["loss_iid"] is None for row in diverged)
    assert "diverged at step" in diverged[0]["diverged"]
    assert {row["recipe"] for row in diverged} == {"real", "real_0p5", "simple"}
    names = {run.dataset.rsplit("/", 1)[1] for run in made.lake.children("studies/small/runs")}
    assert not any("lr1000" in name for name in names)


def test_all_recipes_move_in_the_same_waves(made):
    first = Counter(row["recipe"] for row in points_of(made) if row["wave"] == 1)
    assert first == {"real": 5, "real_0p5": 5, "simple": 4}


def test_a_second_search_trains_nothing_and_prints_the_same_table(made, trained, capsys):
    before = made.lake.latest("studies/small/search")
    assert main(["search", "small"]) == 0
    printed = capsys.readouterr().out
    assert trained == []
    assert made.lake.latest("studies/small/search").ref == before.ref
    for word in ("real_0p5", "simple", "certificate", "iid", before.uri):
        assert word in printed


def test_what_is_lost_is_trained_again_and_nothing_else(made, trained):
    before = made.lake.latest("studies/small/search")
    rows = points_of(made)
    lost = next(row["run"] for row in rows if row["wave"] == 1 and not row["best"] and not row["diverged"])
    broken = next(row["run"] for row in rows if row["diverged"])
    for kind, name in (("runs", lost), ("diverged", broken)):
        shutil.rmtree(Path(made.lake.base, "studies", "small", kind, name))
    assert main(["search", "small"]) == 0
    assert sorted(trained) == sorted([lost, broken])
    assert made.lake.latest("studies/small/search").extra["certificates"] == before.extra["certificates"]


def test_the_final_runs_are_each_seed_at_the_best_points_and_those_that_ran_are_not_run_again(made, trained, capsys):
    best = waves.best(made.lake.latest("studies/small/search"))
    assert main(["plan", "small"]) == 0
    runs = {run["run"]: run for run in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(runs) == 6 * 2
    by_recipe = {run["recipe"]: run for run in runs.values() if run["seed"] == 1}
    for recipe, point in best.items():
        assert Point(**by_recipe[recipe]["point"]) == point
    assert Point(**by_recipe["stitched"]["point"]) == best["simple"]
    assert by_recipe["longer"]["steps"] == by_recipe["simple"]["steps"]
    assert by_recipe["fixed"]["training"]["attention"] == "documents"
    one, other = (spent(made.study, by_recipe[name], "compute", vocabulary=300) for name in ("longer", "simple"))
    assert one == other
    assert main(["train", "small"]) == 0
    assert sorted(trained) == sorted(
        name for name, run in runs.items() if run["seed"] == 1 or run["recipe"] not in best
    )
    evaluation = json.loads(made.lake.latest("studies/small/runs/stitched-s1").file("evaluation.json").read_text())
    assert (evaluation["steps"], evaluation["recipe"]) == (by_recipe["stitched"]["steps"], "stitched")


def test_another_seed_or_mix_leaves_the_search_as_it_is(made, trained):
    made.file(
        training=TRAINING | {"seeds": [0, 1, 2], "threads": 2},
        mixes=MIXES | {"again": {"layout": "real", "epochs": 3, "search": False}},
    )
    study = load_study("small")
    found = waves.survey(study, made.lake, **made.inputs)
    assert all(one.walk.ended == "certificate" for one in found.values())


def test_a_search_of_other_settings_is_not_taken_for_this_one(made, capsys):
    made.file(search=SEARCH | {"epochs": [1, 2, 4, 8]})
    assert main(["train", "small"]) == 1
    assert "is the search of other mixes or settings" in capsys.readouterr().err
    made.file(training=TRAINING | {"context": 16})
    assert main(["plan", "small"]) == 1
    assert "run python -m training search small" in capsys.readouterr().err
    shutil.rmtree(Path(made.lake.base, "studies", "small", "search"))
    assert main(["plan", "small"]) == 1
    assert "finds its settings by a search, and has not yet" in capsys.readouterr().err


def test_points_that_are_missing_are_named(made):
    lost = next(row["run"] for row in points_of(made) if row["wave"] == 1 and row["recipe"] == "simple")
    kind = "diverged" if "lr1000" in lost else "runs"
    shutil.rmtree(Path(made.lake.base, "studies", "small", kind, lost))
    with pytest.raises(LakeError, match=f"search of 'simple' still lacks {lost}; run the wave again"):
        waves.choose(made.study, made.lake, **made.inputs)


def test_a_study_whose_every_point_diverges_names_the_setting(made, capsys):
    training = TRAINING | {"optimizer": TRAINING["optimizer"] | {"lr": 1000.0}}
    made.file(search={"lr": [1000.0, 2000.0]}, training=training)
    assert main(["search", "small"]) == 1
    message = capsys.readouterr().err
    assert "all 2 points tried of recipe 'real' diverged; add lower values to search.lr" in message


def test_a_point_that_no_run_can_have_is_refused_before_anything_is_trained(made, trained, capsys):
    made.file(search=SEARCH | {"epochs": [0.001, 1, 2, 4]})
    assert main(["search", "small"]) == 1
    assert "not one step of 4 windows" in capsys.readouterr().err
    assert trained == []


def test_a_metric_without_documents_is_named(made, capsys):
    made.file(search=SEARCH | {"metric": "long"})
    assert main(["search", "small"]) == 1
    assert "has no loss on 'long': that held-out set has no document" in capsys.readouterr().err
    made.file(search=SEARCH | {"metric": "lonk"})
    assert main(["search", "small"]) == 1
    assert "search.metric: 'lonk' is unknown; did you mean 'long'?" in capsys.readouterr().err


def test_a_mix_with_values_of_its_own_is_searched_along_them(small):
    content = study_content(seeds=[0, 1], precision="fp32", evaluations=2)
    content["mixes"]["real"]["search"] = {"lr": [3e-3, 1e-2], "epochs": [4, 8]}
    study = Study.model_validate({**content, "search": {"lr": [1e-3, 3e-3], "epochs": [1, 2, 4]}})
    found = {"real": set(), "simple": set()}
    for order in waves.wave(study, small.mixes.lake, tokens=small.tokens, mixes=small.mixes):
        point = order["run"]["point"]
        found[order["run"]["recipe"]].add((point["lr"], point["epochs"]))
    assert found == {
        "real": {(3e-3, 4), (1e-2, 4), (3e-3, 8)},
        "simple": {(3e-3, 2), (1e-3, 2), (3e-3, 1), (3e-3, 4)},
    }


def test_a_study_without_search_says_so(made, capsys):
    made.file(search=None)
    assert main(["search", "small"]) == 1
    assert "study small has no 'search'" in capsys.readouterr().err


def test_one_tracking_run_per_point_with_its_wave_and_the_diverged_ones_failed(made, trained, empty_store):
    """What the Dag's tasks do, on MLflow: two points, each twice; the second time nothing is trained."""
    from mlflow import MlflowClient

    shutil.copy(empty_store, made.study.path.parent)
    study = made.study
    parent = track.open_parent(study)
    rows = [row for row in points_of(made) if row["recipe"] == "real" and row["wave"] == 1 and row["epochs"] == 2]
    orders = [
        {"run": made_run(made, row), "wave": row["wave"]} for row in rows if row["lr"] in (0.01, 1000.0)
    ]  # fmt: skip
    for order in orders * 2:

        @contextmanager
        def tracked(order=order):
            with track.child(study, parent, order["run"], tags=waves.tags(study, order)) as tracker:
                yield tracker

        waves.train_point(study, made.lake, **made.inputs, run=order["run"], tracked=tracked)
    assert trained == []
    client = MlflowClient(track.tracking_uri())
    experiment = client.get_experiment_by_name("small").experiment_id
    found = {r.data.params["point.lr"]: r for r in client.search_runs([experiment], "tags.`palimpsest.wave` = '1'")}
    assert {lr: run.info.status for lr, run in found.items()} == {"0.01": "FINISHED", "1000.0": "FAILED"}
    run = found["0.01"]
    assert run.data.tags["palimpsest.point"] == "lr 0.01, weight_decay 0.1, epochs 2, f 0"
    assert run.data.params["optimizer.lr"] == "0.01"
    assert run.data.metrics["iid_loss"] == next(row["loss_iid"] for row in rows if row["lr"] == 0.01)


def test_by_hand_every_point_and_run_is_one_in_mlflow_and_the_results_are_written(made, tmp_path, monkeypatch, capsys):
    """As the Dag's: from the search of the fixture to the page that only a report with a run in MLflow can have."""
    from mlflow import MlflowClient

    client = MlflowClient(track.tracking_uri())
    experiment = client.get_experiment_by_name("small").experiment_id
    (parent,) = client.search_runs([experiment], f"tags.`{track.KEY}` = 'by hand'")
    assert parent.info.status == "RUNNING"

    def children() -> dict:
        found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        names = [run.info.run_name for run in found]
        assert len(names) == len(set(names))
        return dict(zip(names, found, strict=True))

    rows, found = {row["run"]: row for row in points_of(made)}, children()
    assert found.keys() == rows.keys()
    for name, row in rows.items():
        run = found[name]
        assert run.data.tags["palimpsest.wave"] == str(row["wave"])
        assert run.info.status == ("FAILED" if row["diverged"] else "FINISHED")
        cost = {key: run.data.metrics.get(key) for key in ("trained_tokens", "flops", "train_seconds")}
        assert all(value is None if row["diverged"] else value > 0 for value in cost.values()), name
    other = next(name for name, row in rows.items() if not row["best"] and not row["diverged"])
    assert found[other].data.metrics["trained_tokens"] == rows[other]["steps"] * 4 * 32

    assert main(["train", "small"]) == 0
    found = children()
    final = {name: run for name, run in found.items() if run.data.tags.get("palimpsest.final") == "true"}
    assert len(final) == 6 * 2 and other not in final
    assert final.keys() & rows.keys() == {name for name, row in rows.items() if row["best"]}
    for name, run in final.items():
        assert run.info.status == "FINISHED" and run.data.metrics["flops"] > 0 and run.data.metrics["facts_real"] >= 0
        published = made.lake.latest(f"studies/small/runs/{name}")
        assert run.data.metrics["iid_loss"] == published.extra["losses"]["iid"]
        assert run.data.tags.get("palimpsest.wave") == (str(rows[name]["wave"]) if name in rows else None)

    monkeypatch.setattr(results, "REPOSITORY", tmp_path)
    assert main(["report", "small"]) == 0, capsys.readouterr().err
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"
    assert main(["results", "small"]) == 0, capsys.readouterr().err
    page = (tmp_path / "docs" / "results" / "small.md").read_text(encoding="utf-8")
    assert f"MLflow run `{parent.info.run_id}`" in page


def made_run(made: Made, row: dict) -> dict:
    found = waves.survey(made.study, made.lake, **made.inputs)[row["recipe"]]
    return next(run for run in found.runs.values() if run["run"] == row["run"])


def test_points_run_in_several_processes_too_and_a_divergence_there_is_one(made):
    training = TRAINING | {"processes": 2}
    made.file(training=training)
    study = load_study("small")
    row = next(row for row in points_of(made) if row["recipe"] == "real" and row["diverged"])
    shutil.rmtree(Path(made.lake.base, "studies", "small", "diverged", row["run"]))
    run = made_run(replace(made, study=study), row)
    published = waves.train_point(study, made.lake, **made.inputs, run=run)
    assert published.dataset == f"studies/small/diverged/{row['run']}"
    assert "diverged at step" in published.extra["diverged"]
