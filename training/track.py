"""MLflow: a study is an experiment, an Airflow run its parent run, a training run a child.

Every function is safe to repeat: the parent is found again by the run's key, and a child that is tried again replaces
its earlier attempt, so nothing shows up twice. What any run takes, of a study or not, is in `training.mlflow_store`.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.config import Labelled, Loop, Study
from palimpsest.lake import Published
from palimpsest.machine import hardware
from training.mlflow_store import (
    CHILD,
    FLUSH_METRICS,
    Tracker,
    airflow_tags,
    airflow_url,
    begin,
    ended,
    experiment_of,
    locked,
    run_url,
    search,
    short_commit,
    source,
    store,
    tracking_uri,
)
from training.points import applied

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "CHILD",
    "KEY",
    "Tracker",
    "add_facts",
    "add_files",
    "airflow_tags",
    "airflow_url",
    "child",
    "children",
    "finish_parent",
    "hardware",
    "open_parent",
    "params",
    "reports",
    "run_url",
    "short_commit",
    "stop_parent",
    "tracking_uri",
]

SYSTEM_METRICS_SECONDS = 5.0
KEY = "palimpsest.run_key"
LAW, CAVEAT = "palimpsest.law", "palimpsest.caveat."
"""Tags of a report: its reference law, and by mix what its data efficiency hangs on or why there is none."""


def open_parent(study: Study | Loop | Labelled, tags: Mapping[str, str] | None = None) -> str:
    """The parent run of this Airflow run (or of tag ``palimpsest.run_key``; else of the study's runs by hand)."""
    own = airflow_tags()
    own.pop("airflow.task_id", None)
    own.pop("airflow.try_number", None)
    own |= tags or {}
    own.setdefault(KEY, "/".join([own[t] for t in ("airflow.dag_id", "airflow.run_id") if t in own]) or "by hand")
    with store() as client, locked():
        experiment = experiment_of(client, study)
        found = search(client, experiment, {KEY: own[KEY]})
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        url = airflow_url(own)
        own |= {"airflow.url": url} if url else {}
        name = own.get("airflow.run_id", own[KEY])
        system = {"mlflow.note.content": _description(study, own), **source()}
        return client.create_run(experiment, run_name=name, tags={**system, **own}).info.run_id


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
    parent = {"mlflow.parentRunId": parent_run_id}
    own = {**airflow_tags(map_index), **(tags or {}), **parent}
    url = airflow_url(own)
    own |= {"airflow.url": url} if url else {}
    with store() as client:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        experiment = client.get_run(parent_run_id).info.experiment_id
        run_id = begin(client, experiment, str(run["run"]), own, params(study, run), among=parent)
        _log_inputs(client, run_id, datasets)
        monitor = SystemMetricsMonitor(run_id, SYSTEM_METRICS_SECONDS, tracking_uri=tracking_uri())
        monitor.start()
    with ended(client, run_id) as tracker:
        try:
            yield tracker
        finally:
            monitor.finish()


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
    with store() as client:
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
    with store() as client:
        client.set_terminated(parent_run_id, "FAILED")


def children(parent_run_id: str) -> list[dict]:
    """The trainings under a parent run: name, status, and the hardware each ran on."""
    with store() as client:
        experiment = client.get_run(parent_run_id).info.experiment_id
        found = search(client, experiment, {"mlflow.parentRunId": parent_run_id})
    return [
        {"run": r.data.tags.get(CHILD), "status": r.info.status, "hardware": r.data.tags.get("palimpsest.hardware")}
        for r in found
    ]


def add_files(run_id: str, folder: Path, tables: Mapping[str, Mapping[str, list]]) -> None:
    """Further files beside the report's, and tables; those of an earlier attempt are replaced."""
    with store() as client:
        client.log_artifacts(run_id, str(folder), "report")
        _log_tables(client, run_id, tables)


def add_facts(
    run_id: str,
    tables: Mapping[str, Mapping[str, list]],
    metrics: Sequence[tuple[str, float, int]],
    tags: Mapping[str, str],
) -> None:
    """Tables, metrics (name, value, step) and tags of a run that goes on."""
    with store() as client:
        from mlflow.entities import Metric, RunTag

        _log_tables(client, run_id, tables)
        now = int(time.time() * 1000)
        figures = [Metric(name, float(value), now, step) for name, value, step in metrics]
        for start in range(0, len(figures), FLUSH_METRICS):
            client.log_batch(run_id, metrics=figures[start : start + FLUSH_METRICS])
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def reports(study: Study) -> list[dict]:
    """What the study's finished parent runs said, the earliest first.

    Run, name, time (of its end), commit, headline, metrics; ``law``, the reference law with its caveat, and ``caveats``
    by mix: both None for a run that recorded none, as older ones.
    Two runs that came to the same report count once, the later one.
    """
    with store() as client:
        experiment = client.get_experiment_by_name(study.name)
        runs = (
            list(client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")) if experiment else []
        )
    runs = [run for run in runs if "palimpsest.report" in run.data.tags]
    by_report = {run.data.tags["palimpsest.report"]: run for run in sorted(runs, key=lambda run: run.info.end_time)}
    return [
        {
            "run": run.info.run_id,
            "name": run.info.run_name,
            "report": report,
            "time": dt.datetime.fromtimestamp(run.info.end_time / 1000, dt.UTC).isoformat(timespec="seconds"),
            "seconds": (run.info.end_time - run.info.start_time) / 1000,
            "commit": run.data.tags.get("mlflow.source.git.commit", "unknown"),
            "headline": run.data.tags.get("headline", ""),
            "metrics": dict(run.data.metrics),
            "law": run.data.tags.get(LAW),
            "caveats": _caveats(run.data.tags),
        }
        for report, run in sorted(by_report.items(), key=lambda found: found[1].info.end_time)
    ]


def _caveats(tags: Mapping[str, str]) -> dict[str, str] | None:
    found = {name.removeprefix(CAVEAT): said for name, said in tags.items() if name.startswith(CAVEAT)}
    return found if LAW in tags else None


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
