from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest.config import load_study
from palimpsest.lake import REPOSITORY, Facts
from palimpsest.state import state_dir
from training import mlflow_store, track

pytestmark = pytest.mark.usefixtures("store")
RUN = {"run": "simple-s0", "recipe": "simple", "seed": 0, "f": 0.75, "streams": [{"layout": "real", "tokens": 5}]}


@pytest.fixture
def study():
    return load_study("demo")


@pytest.fixture
def airflow(monkeypatch):
    for name, value in {"DAG_ID": "study_demo", "DAG_RUN_ID": "manual__2026-10-28T00:00:00+00:00"}.items():
        monkeypatch.setenv(f"AIRFLOW_CTX_{name}", value)
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "train")
    monkeypatch.setenv("AIRFLOW_CTX_TRY_NUMBER", "1")
    monkeypatch.setenv("PALIMPSEST_AIRFLOW_URL", "http://localhost:8080/")


def client():
    from mlflow import MlflowClient

    return MlflowClient(track.tracking_uri())


def runs(parent=None):
    store = client()
    experiment = store.get_experiment_by_name("demo").experiment_id
    found = store.search_runs([experiment])
    return [r for r in found if r.data.tags.get("mlflow.parentRunId") == parent]


def test_one_airflow_run_has_one_parent_however_often_it_is_opened(study, airflow, monkeypatch):
    first = track.open_parent(study)
    track.finish_parent(study, first, REPOSITORY / "sample", {}, headline="Done.")
    assert track.open_parent(study) == first
    assert client().get_run(first).info.status == "RUNNING"
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__2")
    assert track.open_parent(study) != first
    assert len(runs()) == 2


def test_without_airflow_the_key_decides(study):
    assert track.open_parent(study) == track.open_parent(study)
    assert track.open_parent(study, {"palimpsest.run_key": "bench"}) != track.open_parent(study)


def test_parent_links_back_to_the_airflow_run(study, airflow):
    tags = client().get_run(track.open_parent(study)).data.tags
    url = "http://localhost:8080/dags/study_demo/runs/manual__2026-10-28T00%3A00%3A00%2B00%3A00"
    assert tags["airflow.url"] == url
    assert url in tags["mlflow.note.content"] and "airflow dags trigger study_demo" in tags["mlflow.note.content"]


def test_child_carries_config_data_and_identity(study, airflow, lake):
    data = lake.publish("studies/demo/tokens", lambda d: (d / "a.bin").write_text("x") and Facts())
    parent = track.open_parent(study)
    with track.child(study, parent, RUN, [data], map_index=3) as tracker:
        for step in range(1200):
            tracker.log_metrics({"train/loss": 5 - step / 1000}, step)
    (run,) = runs(parent)
    assert run.info.status == "FINISHED" and run.info.run_name == "simple-s0"
    assert run.data.params["f"] == "0.75" and run.data.params["optimizer.lr"] == "0.003"
    assert run.data.params["streams.real.tokens"] == "5"
    assert run.data.tags["airflow.map_index"] == "3" and run.data.tags["airflow.task_id"] == "train"
    assert run.data.tags["airflow.url"].endswith("/tasks/train/mapped/3")
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "studies/demo/tokens" and dataset.dataset.digest == data.digest[:36]
    curve = client().get_metric_history(run.info.run_id, "train/loss")
    assert sorted(m.step for m in curve) == list(range(1200))


def test_a_retry_replaces_the_failed_attempt(study):
    def diverge():
        with track.child(study, parent, RUN) as tracker:
            tracker.log_metrics({"train/loss": 1.0}, 0)
            raise ValueError("diverged")

    parent = track.open_parent(study)
    with pytest.raises(ValueError, match="diverged"):
        diverge()
    (failed,) = runs(parent)
    assert failed.info.status == "FAILED" and failed.data.metrics["train/loss"] == 1.0
    with track.child(study, parent, RUN) as tracker:
        tracker.log_metrics({"train/loss": 0.5}, 0)
    (again,) = runs(parent)
    assert again.info.status == "FINISHED" and again.info.run_id != failed.info.run_id


WORKER = """
import sys
from palimpsest.config import load_study
from training import track
study = load_study("demo")
parent, name = sys.argv[1:]
with track.child(study, parent, {"run": name}) as tracker:
    for step in range(200):
        tracker.log_metrics({f"m{i}": step for i in range(10)}, step)
        tracker.flush() if step % 10 == 0 else None
"""


def start(code, *arguments):
    paths = os.pathsep.join([str(REPOSITORY / "plugins"), str(REPOSITORY)])
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env={**os.environ, "PYTHONPATH": paths})


def test_processes_share_the_sqlite_store(study):
    parent = track.open_parent(study)
    workers = [start(WORKER, parent, f"mix-s{i}") for i in range(2)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    found = runs(parent)
    assert {r.info.run_name: r.data.metrics["m9"] for r in found} == {f"mix-s{i}": 199 for i in range(2)}


def test_two_processes_open_one_parent_on_a_store_that_does_not_exist_yet(store):
    store.unlink()
    code = "from palimpsest.config import load_study; from training import track; track.open_parent(load_study('demo'))"
    assert [worker.wait(120) for worker in [start(code), start(code)]] == [0, 0]
    assert len(runs()) == 1


def test_report_lands_on_the_parent(study, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("<p>hello</p>")
    parent = track.open_parent(study)
    for _ in range(2):
        track.finish_parent(
            study,
            parent,
            tmp_path / "report",
            {"efficiency/simple": 1.4},
            headline="Worth 1.4x.",
            tables={"mixes.json": {"mix": ["a"]}},
        )
    run = client().get_run(parent)
    assert run.info.status == "FINISHED" and run.data.metrics == {"efficiency/simple": 1.4}
    assert run.data.tags["mlflow.note.content"].startswith("**Worth 1.4x.**")
    assert {f.path for f in client().list_artifacts(parent, "report")} == {"report/report.html"}
    assert Path(run.info.artifact_uri).is_relative_to(state_dir() / "mlartifacts")


def test_deleted_experiment_is_restored(study):
    parent = track.open_parent(study)
    client().delete_experiment(client().get_run(parent).info.experiment_id)
    track.open_parent(study)
    assert client().get_experiment_by_name("demo").lifecycle_stage == "active"


def test_store_that_is_away_is_weather(study, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9"):
        track.open_parent(study)


def test_outside_git_there_is_no_commit_and_no_error(study, monkeypatch, tmp_path):
    monkeypatch.setattr(mlflow_store, "REPOSITORY", tmp_path)
    assert "mlflow.source.git.commit" not in client().get_run(track.open_parent(study)).data.tags


def test_changes_that_are_in_no_commit_are_told(study, monkeypatch, tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *words], cwd=tmp_path, check=True)

    def commit(key):
        return client().get_run(track.open_parent(study, {track.KEY: key})).data.tags["mlflow.source.git.commit"]

    (tmp_path / "study.yaml").write_text("f: 0.5")
    git("init", "-q")
    git("add", "study.yaml")
    git("commit", "-qm", "one")
    monkeypatch.setattr(mlflow_store, "REPOSITORY", tmp_path)
    clean = commit("first")
    (tmp_path / "study.yaml").write_text("f: 0.75")
    changed = commit("second")
    assert changed == f"{clean}-dirty" and len(clean) == 40
    assert (track.short_commit(clean), track.short_commit(changed, 7)) == (clean[:12], f"{clean[:7]}-dirty")


def test_run_url_needs_to_know_where_mlflow_is(monkeypatch):
    monkeypatch.delenv("PALIMPSEST_MLFLOW_URL", raising=False)
    assert track.run_url("abc") is None
    monkeypatch.setenv("PALIMPSEST_MLFLOW_URL", "http://localhost:5000/")
    assert track.run_url("abc") == "http://localhost:5000/#/runs/abc"
