"""The guard's verdicts as MLflow shows them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from palimpsest.guard.verdict import bounded, not_judged
from palimpsest.lake import Facts
from tests.training.conftest import make_study
from training import track
from training.verdicts import log_verdicts

FOUND = [
    bounded("G2", "real_floor", 0.05, "mix a: 5% was written by people", at_least=0.1, subject="a in b.example"),
    bounded("G2", "real_floor", 0.5, "mix c: 50% was written by people", at_least=0.1, subject="c"),
    not_judged("G6", "temperature", "not known", severity="warning", subject="s"),
]


@pytest.fixture
def gate(lake, store):
    rows = [{**verdict.as_dict(), "waivable": True} for verdict in FOUND]
    rows[0] |= {"outcome": "warned", "details": {"waived_by": "Ada"}}
    return lake.publish("studies/small/gate", lambda directory: Facts(extra={"guard": rows}))


def test_each_gate_has_a_tag_each_figure_a_metric_and_each_verdict_a_row(gate):
    study = make_study()
    run = track.open_parent(study)
    log_verdicts(run, study, gate)
    log_verdicts(run, study, gate)  # the task is tried again
    client = MlflowClient(track.tracking_uri())
    told = client.get_run(run).data
    assert told.tags["palimpsest.guard"] == "warned"
    assert told.tags["palimpsest.guard.G2"] == "warned: mix a: 5% was written by people"
    assert told.tags["palimpsest.guard.waived_by"] == "Ada"
    assert told.metrics == {"guard/G2_real_floor/a in b.example": 0.05, "guard/G2_real_floor/c": 0.5}
    table = json.loads(Path(client.download_artifacts(run, "guard.json")).read_text())
    assert len(table["data"]) == 3
    assert table["columns"][0] == "gate"


def test_figures_over_time_have_the_day_as_their_step(gate, lake):
    day = dt.date(2026, 10, 3)
    row = {"strategy": "r", "metric": "entropy", "data_until": day, "value": 8.5, "deviations": -3.0}

    def write(directory: Path) -> Facts:
        pq.write_table(pa.Table.from_pylist([row]), directory / "guard_metrics.parquet")
        return Facts(extra={"drifts": ["entropy moved"]})

    lake.publish("studies/small/guard_metrics", write)
    study = make_study()
    run = track.open_parent(study)
    log_verdicts(run, study, gate)
    client = MlflowClient(track.tracking_uri())
    (point,) = client.get_metric_history(run, "guard_trend/entropy_deviations/r")
    assert (point.value, point.step) == (-3.0, (day - dt.date(1970, 1, 1)).days)
    assert client.get_run(run).data.tags["palimpsest.guard.drifts"] == "entropy moved"
