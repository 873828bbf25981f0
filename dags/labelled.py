"""One Dag per file in dags/labelled: labelled data that are short of something, and what generated data are worth."""

from __future__ import annotations

import datetime as dt

from airflow.sdk import dag

from palimpsest_airflow import definitions
from palimpsest_airflow.tasks import common, labelled

DOC = """
{description}

**What** Counts label by group, generates for the cells that are short from their own real items, verifies, and measures
on real test items, {seeds} seeds: nothing, oversampling, generated items, verified ones, as much real data. File:
`dags/labelled/{name}.yaml`.

**Reads** {source}

**Writes** (lake) `labelled/{name}/plan`, `seeds/<seed>`, `card`, `report`, `repaired`; (MLflow) experiment `{name}`

**When it is red** `plan`, `measure`: the log's last line names the file, row or cell and what to do. `repair`: {repair}
"""
GATED = "a gate failed, its sentence is in the log and in the report; change the plan, the generator or the verifier."
WATCHED = "its data are published whatever the gates say, for the study is an experiment; see its log."


def build(found):
    source = ", ".join(f"`{file}`" for file in found.source.files) or "scikit-learn's handwritten digits"
    told = {"name": found.name, "description": found.description, "seeds": len(found.seeds), "source": source}

    @dag(
        dag_id=f"labelled_{found.name}",
        description=found.description,
        doc_md=DOC.format(**told, repair=WATCHED if found.experiment else GATED),
        schedule=None if found.schedule == "manual" else definitions.timetable(found),
        start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        catchup=False,
        max_active_runs=1,
        default_args={**common.DEFAULTS, "owner": found.owner},
        tags=["labelled", found.source.kind],
    )
    def pipeline():
        planned = labelled.plan(found.name)
        measured = labelled.measure.partial(name=found.name, planned=planned).expand(seed=found.seeds)
        told = labelled.card(found.name, planned, measured)
        report = labelled.report(found.name, told)
        report >> labelled.repair(found.name, planned, measured, told)

    return pipeline()


for found in definitions.labelled():
    build(found)
