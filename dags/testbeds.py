"""The Dag of the testbed on which ways to select are held against what was measured before."""

from __future__ import annotations

import datetime as dt

from airflow.sdk import dag

from palimpsest_airflow.tasks import common, testbed

SEEDS = 10
DOC = f"""
Which ways to select find good digits among bad ones: learned weights (MTS), their baselines, and simpler ways.

**What** Scikit-learn's digits, 4,000 generated ones of known quality among them, {SEEDS} seeds: noise of the gradient
that weights are learned by, what features tell, accuracy of every arm; minutes of one thread per seed.

**Reads** nothing but scikit-learn's digits

**Writes** (lake) `testbeds/digits/quality`, `noise`, `simple`, `learned`, `batches` per seed, and `report`; (MLflow)
experiment `testbed_digits`. `python -m training testbed digits` then copies the page to `docs/results`.

**When it is red** `measure`: the log's last line says what; what is published is not measured again, so clear the task.
"""


@dag(
    dag_id="testbed_digits",
    description="Which ways to select find good digits among bad ones",
    doc_md=DOC,
    schedule=None,
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,
    default_args={**common.DEFAULTS, "owner": "pretraining"},
    tags=["testbed"],
)
def pipeline():
    testbed.report(testbed.measure.expand(seed=list(range(SEEDS))))


pipeline()
