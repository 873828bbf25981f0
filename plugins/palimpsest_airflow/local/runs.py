"""The demo's two Dag runs, followed through the REST API: what each task does, and how long its own work took."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from palimpsest_airflow.local.api import Api
from palimpsest_airflow.local.settings import Refused

FINISHED = {"success", "failed", "skipped", "upstream_failed", "removed"}
SECOND = 1.0
"""Between two looks at a run; each look costs the API server some 50 ms."""


class RunFailed(RuntimeError):
    """A Dag run did not succeed; ``task`` is the first task instance that failed, if any did, ``log`` its log."""

    def __init__(self, dag_id: str, run_id: str, task: dict[str, Any] | None, log: list[dict[str, Any]]) -> None:
        super().__init__(f"{dag_id} run {run_id} failed")
        self.dag_id, self.run_id, self.task, self.log = dag_id, run_id, task, log


@dataclass
class Stage:
    """All instances of one task."""

    dag_id: str
    name: str
    total: int
    done: int = 0
    running: int = 0
    failed: int = 0
    seconds: float = 0.0
    """From the first start to the last end, or to now."""


@dataclass
class Following:
    """What is known of the runs so far."""

    stages: dict[tuple[str, str], Stage] = field(default_factory=dict)
    work: dict[tuple[str, str, int], tuple[float, float]] = field(default_factory=dict)
    """Start and end (Unix seconds) of each task instance's own work."""
    finished: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)


def wait_for_dags(api: Api, dag_ids: list[str], patience: float = 120.0) -> None:
    """Until the Dag processor has read the files; an import error is reported at once."""
    deadline = time.monotonic() + patience
    while True:
        known = {dag["dag_id"] for dag in api.get("dags")["dags"]}
        if known >= set(dag_ids):
            return
        errors = api.get("importErrors")["import_errors"]
        if errors:
            raise Refused("\n".join(f"{e['filename']}: {e['stack_trace'].strip()}" for e in errors))
        if time.monotonic() > deadline:
            missing = ", ".join(sorted(set(dag_ids) - known))
            raise Refused(
                f"Airflow has not found {missing} in {patience:.0f} s; see dag-processor.log in the log folder"
            )
        time.sleep(0.3)


def abandon(api: Api, dag_id: str) -> None:
    """End the runs that an interrupted demo left unfinished; the scheduler would go on with them."""
    for run in api.get(f"dags/{dag_id}/dagRuns", state=["running", "queued"])["dag_runs"]:
        api.patch(f"dags/{dag_id}/dagRuns/{run['dag_run_id']}", {"state": "failed", "note": "its demo was interrupted"})


def trigger(api: Api, dag_id: str, params: dict[str, str]) -> str:
    """Start a run by hand, the way the UI does; its id."""
    api.patch(f"dags/{dag_id}", {"is_paused": False})
    return api.post(f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": params})["dag_run_id"]


def follow(api: Api, dag_id: str, run_id: str, seen: Following) -> Iterator[Following]:
    """A look at the run every second until it has succeeded; raises `RunFailed` when it cannot any more."""
    while True:
        state = api.get(f"dags/{dag_id}/dagRuns/{run_id}")["state"]
        tasks = api.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=1000)["task_instances"]
        _update(api, dag_id, run_id, tasks, seen)
        yield seen
        if state == "success":
            return
        if state == "failed":
            failed = sorted((t for t in tasks if t["state"] == "failed"), key=lambda t: t["end_date"] or "")
            raise RunFailed(dag_id, run_id, failed[0] if failed else None, api.log(failed[0]) if failed else [])
        time.sleep(SECOND)


def triggered_by(api: Api, dag_id: str, run_id: str, study_dag: str, patience: float = 60.0) -> Iterator[str | None]:
    """The study run that the corpus run's asset event started; None while the scheduler has not made it yet."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for event in api.get("assets/events", source_dag_id=dag_id, source_run_id=run_id)["asset_events"]:
            for run in event["created_dagruns"]:
                if run["dag_id"] == study_dag:
                    yield run["run_id"]
                    return
        yield None
        time.sleep(0.3)
    raise Refused(f"{dag_id} published its asset but {study_dag} was not started; see scheduler.log in the log folder")


def _update(api: Api, dag_id: str, run_id: str, tasks: list[dict[str, Any]], seen: Following) -> None:
    now = time.time()
    for name in dict.fromkeys(task["task_id"] for task in tasks):
        instances = [task for task in tasks if task["task_id"] == name]
        stage = seen.stages.setdefault((dag_id, name), Stage(dag_id, name, len(instances)))
        stage.total = max(len(instances), stage.total if instances[0]["map_index"] < 0 else 0)
        stage.done = sum(task["state"] == "success" for task in instances)
        stage.running = sum(task["state"] == "running" for task in instances)
        stage.failed = sum(task["state"] in ("failed", "upstream_failed") for task in instances)
        starts = [_unix(task["start_date"]) for task in instances if task["start_date"]]
        ends = [_unix(task["end_date"]) for task in instances if task["end_date"]]
        stage.seconds = (max(ends) if len(ends) == len(instances) else now) - min(starts) if starts else 0.0
    for task in tasks:
        key = (dag_id, task["task_id"], task["map_index"])
        if task["state"] in FINISHED and key not in seen.finished:
            seen.finished[key] = task
            if task["state"] == "success":
                seen.work[key] = _own_work(api, dag_id, run_id, task)


def _own_work(api: Api, dag_id: str, run_id: str, task: dict[str, Any]) -> tuple[float, float]:
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task['task_id']}/xcomEntries/work"
    try:
        start, end = api.get(path, map_index=task["map_index"], deserialize="true")["value"]
    except (httpx.HTTPStatusError, ValueError):
        return 0.0, 0.0
    return float(start), float(end)


def _unix(stamp: str) -> float:
    return dt.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
