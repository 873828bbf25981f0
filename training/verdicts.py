"""The collapse guard's verdicts in MLflow: a table, a tag per gate and the figures, on the study's parent run."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import Lake, NotPublished, Published
from training import track

WORST = ("failed", "warned", "not_judged", "passed")
COLUMNS = ("gate", "outcome", "subject", "measure", "value", "limit", "sentence")


def log_verdicts(run_id: str, study: Study, gate: Published) -> None:
    """Table guard.json, tags ``palimpsest.guard`` and ``palimpsest.guard.G1``..., metrics ``guard/<gate>/...``; and the
    figures over time.
    """
    verdicts = gate.extra.get("guard", [])
    if not verdicts:
        return
    tables = {"guard.json": as_table(verdicts)}
    figures = [(name, value, 0) for name, value in metrics(verdicts).items()]
    track.add_facts(run_id, tables, figures, tags(verdicts))
    log_history(run_id, study, gate.lake)


def log_stopped(study: Study, gate: Published) -> None:
    """What a gate found that let nothing through, on a parent run that has failed until the study goes on."""
    run_id = track.open_parent(study)
    log_verdicts(run_id, study, gate)
    track.stop_parent(run_id)


def log_history(run_id: str, study: Study, lake: Lake) -> None:
    """Table guard_metrics.json, metrics ``guard_trend/<figure>/<strategy or mix>`` and the tag of what drifts."""
    try:
        history = lake.latest(f"studies/{study.name}/guard_metrics")
    except NotPublished:
        return
    rows = pq.read_table(history.file("guard_metrics.parquet")).to_pylist()
    table = {name: [_plain(row[name]) for row in rows] for name in rows[0]}
    track.add_facts(run_id, {"guard_metrics.json": table}, trends(rows), drifts(history))


def trends(rows: Sequence[Mapping]) -> list[tuple[str, float, int]]:
    """Name, value and step, the day since 1970, of every figure of the history, and of its distance from real text."""
    found = []
    for row in rows:
        day = (row["data_until"] - dt.date(1970, 1, 1)).days
        found.append((f"guard_trend/{row['metric']}/{row['strategy']}", row["value"], day))
        if row["deviations"] is not None:
            found.append((f"guard_trend/{row['metric']}_deviations/{row['strategy']}", row["deviations"], day))
    return found


def drifts(history: Published) -> dict[str, str]:
    said = history.extra["drifts"]
    return {"palimpsest.guard.drifts": "; ".join(said)[:5000]} if said else {}


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, dt.date) else value


def as_table(verdicts: Sequence[Mapping]) -> dict[str, list]:
    return {name: [verdict[name] for verdict in verdicts] for name in COLUMNS} | {
        "waived by": [verdict["details"].get("waived_by") for verdict in verdicts]
    }


def metrics(verdicts: Sequence[Mapping]) -> dict[str, float]:
    """``guard/<gate>_<measure>/<subject>``: the value of each verdict that has one."""
    named = {f"guard/{v['gate']}_{v['measure']}/{v['subject'] or 'all'}": v["value"] for v in verdicts}
    return {re.sub(r"[^\w\-. :/]+", "_", name)[:250]: value for name, value in named.items() if value is not None}


def tags(verdicts: Sequence[Mapping]) -> dict[str, str]:
    """The worst outcome of all and of each gate, with the first sentence that said so; and who waived something."""
    found = {}
    for gate in {v["gate"] for v in verdicts}:
        worst = min((v for v in verdicts if v["gate"] == gate), key=lambda v: WORST.index(v["outcome"]))
        found[f"palimpsest.guard.{gate}"] = f"{worst['outcome']}: {worst['sentence']}"[:5000]
    waived = sorted({v["details"]["waived_by"] for v in verdicts if "waived_by" in v["details"]})
    found["palimpsest.guard"] = min((v["outcome"] for v in verdicts), key=WORST.index)
    return found | ({"palimpsest.guard.waived_by": ", ".join(waived)} if waived else {})
