"""The main job through the real scheduler, from an empty folder to the report; in the order a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]


@pytest.fixture(scope="module")
def first(place):
    place.write_study()
    return place.demo()


def test_the_demo_ends_with_the_table_and_where_to_look(first):
    assert first.returncode == 0, first.stdout[-4000:] + first.stderr[-2000:]
    for mix in ("real", "augmented", "simple", "stitched", "stretched"):
        assert mix in first.stdout
    assert "report.html" in first.stdout
    assert "the stages' own work" in first.stdout


def test_nothing_it_started_is_left_running(first, place):
    assert place.leftovers() == []


def test_every_stage_is_published_and_its_digest_holds(first, place):
    lake = place.lake
    stages = {p.dataset for p in lake.all_latest()}
    study = {f"studies/demo/{s}" for s in ("split", "plan", "generations", "mixes", "gate", "tokens", "report")}
    assert {"corpora/sample/documents", "corpora/sample/gate"} | study <= stages
    assert len([s for s in stages if s.startswith("corpora/sample/pages/")]) == 28
    assert len([s for s in stages if s.startswith("studies/demo/runs/")]) == 7 * 2
    for published in lake.all_latest():
        lake.verify(published)


def test_the_documents_are_the_expected_83(first, place):
    documents = place.lake.latest("corpora/sample/documents")
    assert pq.read_metadata(documents.file("documents.parquet")).num_rows == 83
    assert pq.read_metadata(documents.file("document_drops.parquet")).num_rows == 9


def test_mlflow_has_one_parent_and_a_child_per_training(first, place):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.state / 'mlflow.db'}")
    runs = tracked_runs(place)
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert (len(parents), len(children)) == (1, 14)
    assert {r.info.status for r in runs} == {"FINISHED"}
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.tags["airflow.dag_id"] == "study_demo"
        assert run.inputs.dataset_inputs
    artifacts = {a.path for a in client.list_artifacts(parents[0].info.run_id)}
    assert any("report" in name for name in artifacts)


def tracked_runs(place) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.state / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def test_the_same_demo_again_is_a_no_op_in_seconds(first, place, seconds):
    again = place.demo()
    assert again.returncode == 0
    assert "nothing changed" in again.stdout
    assert seconds() < 60  # the first took minutes
    assert place.leftovers() == []


def test_a_gate_that_fails_stops_the_study_before_training_and_says_why(first, place):
    place.write_study(max_synthetic_share=0.2)
    failed = place.demo()
    assert failed.returncode == 1
    assert "study_demo: task gate failed" in failed.stdout
    assert "GateFailed" in failed.stdout
    assert "Data Docs" in failed.stdout
    assert place.leftovers() == []
    refused = json.loads(place.lake.latest("studies/demo/gate_failed").file("verdict.json").read_text())
    broken = [v["expectation"] for v in refused["verdicts"] if not v["success"] and v["severity"] == "critical"]
    assert broken == ["mixes_are_not_too_synthetic"]
    runs = tracked_runs(place)
    assert len(runs) == 1 + 14 + 1, "the refused run trained"
    (stopped,) = (run for run in runs if run.info.status == "FAILED")
    assert any(name.startswith("guard/") for name in stopped.data.metrics), "what stopped it is in MLflow too"


def test_a_single_day_backfilled_by_the_scheduler_gives_the_same_bytes(first, place):
    day = "corpora/sample/pages/2026-10-05"
    before = place.lake.latest(day)
    neighbour = place.lake.latest("corpora/sample/pages/2026-10-06").path.stat().st_mtime_ns
    shutil.rmtree(Path(place.lake.base, day))
    started = place.command("up")
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        place.api().patch("dags/study_demo", {"is_paused": True})
        interval = ("--from-date", "2026-10-05", "--to-date", "2026-10-05")
        created = place.command("airflow", "backfill", "create", "--dag-id", "corpus_sample", *interval)
        assert created.returncode == 0, created.stdout + created.stderr
        run = place.wait_for_backfill("corpus_sample")
    finally:
        assert place.command("down").returncode == 0
    assert run["state"] == "success"
    assert run["data_interval_start"].startswith("2026-10-05")
    after = place.lake.latest(day)
    assert after.digest == before.digest
    assert place.lake.latest("corpora/sample/pages/2026-10-06").path.stat().st_mtime_ns == neighbour
    assert place.leftovers() == []


def test_a_demo_beside_another_on_the_same_port_names_the_setting(first, place):
    import socket

    place.write_study(max_near_copy_share=0.2)
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", int(place.environment["PALIMPSEST_AIRFLOW_PORT"])))
        busy.listen()
        refused = place.demo()
    assert refused.returncode != 0
    assert "PALIMPSEST_AIRFLOW_PORT" in refused.stdout + refused.stderr
    assert place.leftovers() == []
