"""MLflow's store: where it is, who runs this, an experiment by its name, and the metrics and the end of one run.

`MlflowClient` in place of the fluent API: no global active run, and every call names its store. mlflow is imported only
when a run is opened; that takes seconds, a run milliseconds.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from palimpsest.lake import REPOSITORY
from palimpsest.machine import hardware
from palimpsest.state import state_dir

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_SECONDS = 2.0
FLUSH_METRICS = 500
CHILD = "palimpsest.run"
"""Tag: the run's name within its parent, or within an experiment of runs without one."""
WEATHER = {"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR"}


class Described(Protocol):
    """What an experiment is made for: a study, a loop, or a name and a description."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state_dir() / 'mlflow.db'}"


def run_url(run_id: str) -> str | None:
    """The run in the MLflow UI; None unless PALIMPSEST_MLFLOW_URL says where that is."""
    base = os.environ.get("PALIMPSEST_MLFLOW_URL")
    return f"{base.rstrip('/')}/#/runs/{run_id}" if base else None


def airflow_url(tags: Mapping[str, str]) -> str | None:
    """The Dag run (or task instance) in the Airflow UI; None outside Airflow or without PALIMPSEST_AIRFLOW_URL."""
    base = os.environ.get("PALIMPSEST_AIRFLOW_URL")
    if not base or not {"airflow.dag_id", "airflow.run_id"} <= set(tags):
        return None
    parts = ["dags", tags["airflow.dag_id"], "runs", tags["airflow.run_id"]]
    if "airflow.map_index" in tags:
        parts += ["tasks", tags["airflow.task_id"], "mapped", tags["airflow.map_index"]]
    return "/".join([base.rstrip("/"), *(quote(part, safe="") for part in parts)])


def airflow_tags(map_index: int | None = None) -> dict[str, str]:
    """Who runs this, from the AIRFLOW_CTX_* variables Airflow sets around a task; empty outside Airflow."""
    names = {"DAG_ID": "dag_id", "DAG_RUN_ID": "run_id", "TASK_ID": "task_id", "TRY_NUMBER": "try_number"}
    found = {f"airflow.{tag}": os.environ.get(f"AIRFLOW_CTX_{name}", "") for name, tag in names.items()}
    found = {tag: value for tag, value in found.items() if value}
    if found and map_index is not None and map_index >= 0:
        found["airflow.map_index"] = str(map_index)
    return found


class Tracker:
    """Metrics of one run, sent in batches so that parallel trainings do not queue for the SQLite file."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self._buffer: list = []
        self._flushed = time.monotonic()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._buffer += [Metric(name, float(value), now, step) for name, value in metrics.items()]
        if len(self._buffer) >= FLUSH_METRICS or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        while self._buffer:
            with weather():
                self.client.log_batch(self.run_id, metrics=self._buffer[:FLUSH_METRICS])
            del self._buffer[:FLUSH_METRICS]
        self._flushed = time.monotonic()


def begin(
    client: MlflowClient,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    among: Mapping[str, str] | None = None,
) -> str:
    """The id of a new run, which replaces an earlier one of its name (among those with these tags)."""
    from mlflow.entities import Param

    for earlier in search(client, experiment, {**(among or {}), CHILD: name}):
        client.delete_run(earlier.info.run_id)
    own = {**tags, CHILD: name, **source(), "palimpsest.hardware": hardware()}
    run_id = client.create_run(experiment, run_name=name, tags=own).info.run_id
    client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
    return run_id


@contextmanager
def ended(client: MlflowClient, run_id: str) -> Iterator[Tracker]:
    """A tracker for a run, which then ends FINISHED, FAILED or (stopped from outside) KILLED."""
    tracker, status = Tracker(client, run_id), "KILLED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        with weather():
            tracker.flush()
            client.set_terminated(run_id, status)


def source() -> dict[str, str]:
    """Tags that say who ran this, and at which commit where there is one."""
    tags = {"mlflow.user": os.environ.get("USER", "unknown"), "mlflow.source.name": "palimpsest"}
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return tags
    return tags | ({"mlflow.source.git.commit": found.stdout.strip()} if found.returncode == 0 else {})


def short_commit(commit: str, digits: int = 12) -> str:
    """The commit's first digits, with ``-dirty`` where files were changed that it does not hold."""
    return commit[:digits] + "-dirty" * commit.endswith("-dirty")


def experiment_of(client: MlflowClient, about: Described) -> str:
    """The id of the experiment of this name, which is made, or restored, if it is not there."""
    found = client.get_experiment_by_name(about.name)
    if found is None:
        local = tracking_uri().startswith("sqlite:")
        location = str(state_dir() / "mlartifacts" / about.name) if local else None
        # without the kind, MLflow's UI takes nested runs for evaluations of a GenAI app and hides the charts
        tags = {"mlflow.note.content": about.description, "mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(about.name, location, tags=tags)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def search(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> list:
    """The experiment's runs that have all these tags."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment], wanted))


@contextmanager
def store() -> Iterator[MlflowClient]:
    """A client of the store that `tracking_uri` names; raises ConnectionError where it does not answer."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    with weather():
        with locked():  # the first client creates the SQLite tables, and a second one must not do so meanwhile
            client = MlflowClient(tracking_uri())
        yield client


@contextmanager
def weather() -> Iterator[None]:
    """A store that is busy or away is a `ConnectionError` (a retry may help); anything else stays as it is."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in WEATHER:
            raise ConnectionError(f"MLflow at {tracking_uri()} did not answer; is it up? {error}") from error
        raise


@contextmanager
def locked() -> Iterator[None]:
    """One process of this machine at a time, so that nothing is looked for, not found and made twice."""
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir() / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
