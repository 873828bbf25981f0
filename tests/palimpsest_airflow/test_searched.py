"""The Dag of a tiny searched study, run by Airflow's own scheduling in one process: which waves run, which are skipped.

Every task does its real work on a real lake, catalog, MLflow store and Airflow database.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.lake import REPOSITORY, Lake
from palimpsest_airflow.local.settings import Settings
from tests.palimpsest.conftest import publish_corpus, write_study
from tests.palimpsest_airflow.conftest import copy_databases, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RUNS = """
import json, os, sys, traceback

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what tasks print goes to the log
from airflow.dag_processing.dagbag import DagBag
from airflow.models.pool import Pool
from palimpsest_airflow.links import kept
from palimpsest_airflow.local.warm import load

def run():
    for pool in ("gpu", "dbt", "train"):
        Pool.create_or_update_pool(pool, slots=1, description="for tests", include_deferred=False)
    run = DagBag(sys.argv[1]).dags["study_small"].test()
    tasks, links = {}, {}
    for ti in run.get_task_instances():
        tasks.setdefault(ti.task_id, []).append(str(ti.state))
        links.setdefault(ti.task_id, []).append(kept(ti.key, "MLflow"))
    return {"state": str(run.state), "tasks": tasks, "links": links}

load()
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            print(json.dumps(run()), file=answers, flush=True)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        print("null", file=answers, flush=True)
"""
"""A Dag run, in a fork of its own, for every line it reads: importing what tasks need takes longer than the tasks."""


@dataclass(frozen=True)
class Platform:
    environment: dict[str, str]
    lake: Lake
    runs: subprocess.Popen[str]
    log: Path

    def run(self) -> dict:
        """State of a new Dag run, and of its task instances by task, with where their buttons to MLflow lead."""
        self.runs.stdin.write("run\n")
        self.runs.stdin.flush()
        found = json.loads(self.runs.stdout.readline() or "null")
        assert found, self.log.read_text()[-8000:]
        return found

    def tracked(self, **tags: str) -> list:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{Path(self.environment['PALIMPSEST_STATE']) / 'mlflow.db'}")
        wanted = " and ".join(f"tags.`palimpsest.{name}` = '{value}'" for name, value in tags.items())
        return list(client.search_runs([client.get_experiment_by_name("small").experiment_id], wanted))


@pytest.fixture(scope="module")
def platform(tmp_path_factory, made_state, parsed_dbt) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("searched")
    settings = Settings(folder / "state", str(folder / "lake"), free_port(), free_port())
    (folder / "corpora").mkdir()
    (folder / "corpora" / "sample.yaml").write_text((REPOSITORY / "dags" / "corpora" / "sample.yaml").read_text())
    (folder / "studies").mkdir()
    lake = Lake(folder / "lake")
    publish_corpus(lake, 24)
    searched = {"lr": [0.001, 0.01, 1000.0], "epochs": [2, 4], "max_waves": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_CORPORA", str(folder / "corpora"))
        write_study(
            folder / "studies",
            schedule="manual",
            shards=1,
            mixes={
                "real": {"layout": "real", "epochs": 2},
                "simple": {"layout": "simple", "f": 0.75, "epochs": 2, "search": False},
                "stitched": {"layout": "stitched", "f": 0.5, "epochs": 2, "match": {"mix": "real", "by": "compute"}},
            },
            search=searched,
            judging={"ensembles": ["simple"]},
            gates={"max_near_copy_share": 1, "max_duplicate_share": 1, "max_truncated_share": 1, "min_length_ratio": 0},
            training={
                "model": {"layers": 1, "width": 16, "mlp": 32, "heads": 2},
                "optimizer": {"lr": 0.01, "warmup": 0},
                "context": 32, "batch": 4, "block": 8, "seeds": [0, 1], "precision": "fp32", "evaluations": 1,
            },
        )  # fmt: skip
    places = {"PALIMPSEST_CORPORA": "corpora", "PALIMPSEST_STUDIES": "studies"}
    environment = settings.environment() | {name: str(folder / place) for name, place in places.items()}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    for name in ("MLFLOW_TRACKING_URI", "PALIMPSEST_CATALOG"):
        environment.pop(name, None)
    copy_databases(made_state, settings)
    (settings.state / "dbt").symlink_to(parsed_dbt)
    log, command = folder / "log", [sys.executable, "-c", RUNS, str(REPOSITORY / "dags")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with log.open("w") as out, subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=out, **pipes) as runs:
        yield Platform(environment, lake, runs, log)


def test_waves_run_until_the_certificate_and_the_rest_are_skipped(platform):
    first = platform.run()
    assert first["state"] == "success", first["tasks"]
    states = {name: Counter(found) for name, found in first["tasks"].items()}
    searched = platform.lake.latest("studies/small/search")
    (found,) = searched.extra["certificates"].values()
    assert found["certified"]
    wanted = Counter(row["wave"] for row in pq.read_table(searched.file("points.parquet")).to_pylist())
    assert 1 <= len(wanted) <= 3
    for number in (1, 2, 3):
        count = wanted.get(number, 0)
        assert states[f"search.train_{number}"] == ({"success": count} if count else {"skipped": 1})
        reached = number <= len(wanted) + 1
        assert states[f"search.decide_{number}"] == {"success" if reached else "skipped": 1}
    assert states["search.choose"] == {"success": 1}
    assert states["train"] == {"success": 3 * 2}
    assert states["judge"] == {"success": 1}
    assert states["report"] == {"success": 1}

    points = {run.info.run_name: run for number in wanted for run in platform.tracked(wave=str(number))}
    assert len(points) == sum(wanted.values())
    assert {run.info.status for name, run in points.items() if "lr1000" in name} == {"FAILED"}
    assert len(platform.tracked(final="true")) == 6
    other = next(r for r in points.values() if r.info.status == "FINISHED" and "palimpsest.final" not in r.data.tags)
    cost = {name: other.data.metrics[name] for name in ("trained_tokens", "flops", "training_cpu_hours")}
    assert all(cost.values()) and cost["trained_tokens"] % (4 * 32) == 0
    opened = {link for number in wanted for link in first["links"][f"search.train_{number}"]}
    kept = {f"#/runs/{run.info.run_id}" for run in points.values() if "palimpsest.final" not in run.data.tags}
    assert len(opened) == len(points) and kept <= opened and None not in opened
    best = next(run for run in points.values() if run.data.tags.get("palimpsest.final"))
    assert float(best.data.params["point.lr"]) == found["centre"]["lr"]
    assert best.data.metrics["training_cpu_hours"] == best.data.metrics["train_seconds"] / 3600 > 0

    judged = platform.lake.latest("studies/small/ensembles/simple").uri
    (parent,) = platform.tracked(report=platform.lake.latest("studies/small/report").digest)
    assert parent.data.metrics[f"judging_seconds/{judged}"] > 0

    again = platform.run()
    assert again["state"] == "success", again["tasks"]
    states = {name: Counter(found) for name, found in again["tasks"].items()}
    assert states["search.decide_1"] == {"success": 1}
    assert all(states[f"search.train_{number}"] == {"skipped": 1} for number in (1, 2, 3))
    assert states["train"] == {"success": 6}
    assert platform.lake.latest("studies/small/search").ref == searched.ref
