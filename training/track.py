"""MLflow: a study is an experiment, an Airflow run its parent run, a training run a child.

Every function is safe to repeat: the parent is found again by the run's key, and a child that is tried again replaces
its earlier attempt, so nothing shows up twice. `MlflowClient` in place of the fluent API: no global active run, and
every call names its store. mlflow is imported only when a run is opened; that takes seconds, a run milliseconds.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from palimpsest.config import Labelled, Loop, Study
from palimpsest.lake import REPOSITORY, Published
from palimpsest.machine import hardware
from palimpsest.state import state_dir
from training.points import applied

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_SECONDS = 2.0
FLUSH_METRICS = 500
SYSTEM_METRICS_SECONDS = 5.0
KEY, CHILD = "palimpsest.run_key", "palimpsest.run"
WEATHER = {"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR"}


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


def open_parent(study: Study | Loop | Labelled, tags: Mapping[str, str] | None = None) -> str:
    """The parent run of this Airflow run (or of tag ``palimpsest.run_key``; else of the study's runs by hand)."""
    own = airflow_tags()
    own.pop("airflow.task_id", None)
    own.pop("airflow.try_number", None)
    own |= tags or {}
    own.setdefault(KEY, "/".join([own[t] for t in ("airflow.dag_id", "airflow.run_id") if t in own]) or "by hand")
    with _store() as client, _locked():
        experiment = _experiment(client, study)
        found = _search(client, experiment, {KEY: own[KEY]})
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        url = airflow_url(own)
        own |= {"airflow.url": url} if url else {}
        name = own.get("airflow.run_id", own[KEY])
        system = {"mlflow.note.content": _description(study, own), **_source()}
        return client.create_run(experiment, run_name=name, tags={**system, **own}).info.run_id


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
            with _weather():
                self.client.log_batch(self.run_id, metrics=self._buffer[:FLUSH_METRICS])
            del self._buffer[:FLUSH_METRICS]
        self._flushed = time.monotonic()


@contextmanager
def child(
    study: Study,
    parent_run_id: str,
    run: Mapping[str, object],
    datasets: Sequence[Published] = (),
    *,
    map_index: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Tracker]:
    """A tracker for one training; the run ends FINISHED, FAILED or (stopped from outside) KILLED."""
    name = str(run["run"])
    own = {**airflow_tags(map_index), **(tags or {}), CHILD: name, "mlflow.parentRunId": parent_run_id, **_source()}
    own["palimpsest.hardware"] = hardware()
    url = airflow_url(own)
    own |= {"airflow.url": url} if url else {}
    with _store() as client:
        from mlflow.entities import Param
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        experiment = client.get_run(parent_run_id).info.experiment_id
        for earlier in _search(client, experiment, {"mlflow.parentRunId": parent_run_id, CHILD: name}):
            client.delete_run(earlier.info.run_id)
        run_id = client.create_run(experiment, run_name=name, tags=own).info.run_id
        client.log_batch(run_id, params=[Param(key, value) for key, value in params(study, run).items()])
        _log_inputs(client, run_id, datasets)
        monitor = SystemMetricsMonitor(run_id, SYSTEM_METRICS_SECONDS, tracking_uri=tracking_uri())
        monitor.start()
    tracker, status = Tracker(client, run_id), "KILLED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        monitor.finish()
        with _weather():
            tracker.flush()
            client.set_terminated(run_id, status)


def finish_parent(
    study: Study | Loop | Labelled,
    parent_run_id: str,
    report: Path,
    metrics: Mapping[str, float],
    *,
    headline: str,
    curves: Mapping[int, Mapping[str, float]] | None = None,
    tables: Mapping[str, Mapping[str, list]] | None = None,
    tags: Mapping[str, str] | None = None,
    datasets: Sequence[Published] = (),
) -> None:
    """The report's files as artifacts, its tables as MLflow tables, its figures as metrics; the run ends FINISHED.

    ``curves`` are further metrics by step.
    """
    with _store() as client:
        from mlflow.entities import Metric, RunTag

        client.log_artifacts(parent_run_id, str(report), "report")
        _log_tables(client, parent_run_id, tables or {})
        _log_inputs(client, parent_run_id, datasets)
        own = client.get_run(parent_run_id).data.tags
        now = int(time.time() * 1000)
        said = {**(tags or {}), "headline": headline, "mlflow.note.content": _description(study, own, headline)}
        by_step = {0: metrics} | dict(curves or {})
        figures = [Metric(name, float(v), now, step) for step, found in by_step.items() for name, v in found.items()]
        for start in range(0, len(figures), FLUSH_METRICS):
            client.log_batch(parent_run_id, metrics=figures[start : start + FLUSH_METRICS])
        client.log_batch(parent_run_id, tags=[RunTag(name, value) for name, value in said.items()])
        client.set_terminated(parent_run_id, "FINISHED")


def stop_parent(parent_run_id: str) -> None:
    """Ends a parent run FAILED; `open_parent` takes it up again."""
    with _store() as client:
        client.set_terminated(parent_run_id, "FAILED")


def children(parent_run_id: str) -> list[dict]:
    """The trainings under a parent run: name, status, and the hardware each ran on."""
    with _store() as client:
        experiment = client.get_run(parent_run_id).info.experiment_id
        found = _search(client, experiment, {"mlflow.parentRunId": parent_run_id})
    return [
        {"run": r.data.tags.get(CHILD), "status": r.info.status, "hardware": r.data.tags.get("palimpsest.hardware")}
        for r in found
    ]


def add_files(run_id: str, folder: Path, tables: Mapping[str, Mapping[str, list]]) -> None:
    """Further files beside the report's, and tables; those of an earlier attempt are replaced."""
    with _store() as client:
        client.log_artifacts(run_id, str(folder), "report")
        _log_tables(client, run_id, tables)


def add_facts(
    run_id: str,
    tables: Mapping[str, Mapping[str, list]],
    metrics: Sequence[tuple[str, float, int]],
    tags: Mapping[str, str],
) -> None:
    """Tables, metrics (name, value, step) and tags of a run that goes on."""
    with _store() as client:
        from mlflow.entities import Metric, RunTag

        _log_tables(client, run_id, tables)
        now = int(time.time() * 1000)
        figures = [Metric(name, float(value), now, step) for name, value, step in metrics]
        for start in range(0, len(figures), FLUSH_METRICS):
            client.log_batch(run_id, metrics=figures[start : start + FLUSH_METRICS])
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def reports(study: Study) -> list[dict]:
    """What the study's finished parent runs said, the earliest first: run, name, time, commit, headline, metrics.

    Two runs that came to the same report count once, the later one.
    """
    with _store() as client:
        experiment = client.get_experiment_by_name(study.name)
        runs = (
            list(client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")) if experiment else []
        )
    runs = [run for run in runs if "palimpsest.report" in run.data.tags]
    by_report = {run.data.tags["palimpsest.report"]: run for run in sorted(runs, key=lambda run: run.info.start_time)}
    return [
        {
            "run": run.info.run_id,
            "name": run.info.run_name,
            "report": report,
            "time": dt.datetime.fromtimestamp(run.info.start_time / 1000, dt.UTC).isoformat(timespec="seconds"),
            "seconds": (run.info.end_time - run.info.start_time) / 1000,
            "commit": run.data.tags.get("mlflow.source.git.commit", "unknown"),
            "headline": run.data.tags.get("headline", ""),
            "metrics": dict(run.data.metrics),
        }
        for report, run in sorted(by_report.items(), key=lambda found: found[1].info.start_time)
    ]


def params(study: Study, run: Mapping[str, object]) -> dict[str, str]:
    """At most 100 short keys: the run's own plan first, then the training settings."""
    plan = {key: value for key, value in run.items() if key not in ("run", "training")}
    settings = applied(study, run).training.model_dump(mode="json", exclude={"seeds", "reference_shares"})
    flat = {**_flatten(settings), **_flatten(plan)}
    return {key: value[:500] for key, value in list(flat.items())[-100:]}


def _log_tables(client: MlflowClient, run_id: str, tables: Mapping[str, Mapping[str, list]]) -> None:
    """Log columns as MLflow tables; those of an earlier attempt are replaced, where log_table would add to them."""
    known = {file.path for file in client.list_artifacts(run_id)}
    for name, columns in tables.items():
        if name in known:
            rows = [list(row) for row in zip(*columns.values(), strict=True)]
            client.log_dict(run_id, {"columns": list(columns), "data": rows}, name)
        else:
            client.log_table(run_id, dict(columns), name)


def _flatten(value: object, prefix: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        items = ((str(v.get("layout", i)) if isinstance(v, Mapping) else i, v) for i, v in enumerate(value))
    else:
        return {prefix: value if isinstance(value, str) else json.dumps(value)}
    flat: dict[str, str] = {}
    for key, inner in items:
        flat |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _description(study: Study | Loop | Labelled, tags: Mapping[str, str], headline: str = "") -> str:
    lines = [f"**{headline}**\n"] if headline else []
    kinds = {Study: ("study", "report"), Loop: ("loop", "rounds"), Labelled: ("labelled", "labelled")}
    kind, command = kinds[type(study)]
    lines += [study.description, "", "Once more:", "```", f"airflow dags trigger {kind}_{study.name}"]
    lines += [f"python -m palimpsest validate {study.name}", f"python -m training {command} {study.name}", "```"]
    lines += ['Locally, Airflow\'s command line is `make airflow ARGS="…"`.']
    if "airflow.url" in tags:
        lines += ["", f"[This run in Airflow]({tags['airflow.url']})"]
    return "\n".join(lines)


def _source() -> dict[str, str]:
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


def _experiment(client: MlflowClient, study: Study | Loop | Labelled) -> str:
    found = client.get_experiment_by_name(study.name)
    if found is None:
        local = tracking_uri().startswith("sqlite:")
        location = str(state_dir() / "mlartifacts" / study.name) if local else None
        # without the kind, MLflow's UI takes nested runs for evaluations of a GenAI app and hides the charts
        tags = {"mlflow.note.content": study.description, "mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(study.name, location, tags=tags)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _search(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> list:
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return list(client.search_runs([experiment], wanted))


def _log_inputs(client: MlflowClient, run_id: str, datasets: Sequence[Published]) -> None:
    """Names and digests only: nothing is loaded. MLflow keeps 36 characters of a digest; the profile has it whole."""
    from mlflow.entities import Dataset, DatasetInput

    inputs = [
        DatasetInput(
            Dataset(
                name=published.dataset,
                digest=published.digest[:36],
                source_type="local" if published.lake.local else "external",
                source=json.dumps({"uri": f"{published.lake.root}/{published.uri}"}),
                profile=json.dumps({"sha256": published.digest, "bytes": published.manifest["bytes"]}),
            ),
            [],
        )
        for published in datasets
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


@contextmanager
def _store() -> Iterator[MlflowClient]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    with _weather():
        with _locked():  # the first client creates the SQLite tables, and a second one must not do so meanwhile
            client = MlflowClient(tracking_uri())
        yield client


@contextmanager
def _weather() -> Iterator[None]:
    """A store that is busy or away is a `ConnectionError` (a retry may help); anything else stays as it is."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code in WEATHER:
            raise ConnectionError(f"MLflow at {tracking_uri()} did not answer; is it up? {error}") from error
        raise


@contextmanager
def _locked() -> Iterator[None]:
    """One process of this machine at a time, so that nothing is looked for, not found and made twice."""
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir() / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
