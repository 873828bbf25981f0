"""One Dag per file in dags/loops: models that learn from what models before them wrote, round after round."""

from __future__ import annotations

import datetime as dt

from airflow.sdk import dag

from palimpsest_airflow import definitions
from palimpsest_airflow.tasks import common, loop

DOC = """
{description}

**What** Runs {rounds} rounds after round 0, each a study with a Dag of its own (`study_{name}_round_<k>`): the newest
model of each arm writes, served by vLLM, and a new one learns from the mix that the arm's policy makes. File:
`dags/loops/{name}.yaml`.

**Reads** what the corpora have published: {corpora}

**Writes** (lake) `studies/{name}_round_<k>/...`, `loops/{name}/report`; (MLflow) experiment `{name}`, a step per round

**When it is red** `round_<k>`: open the run of Dag `study_{name}_round_<k>` that has this run's id; mend what its red
task says, clear that, then clear `round_<k>` here. {guard}
"""
GUARDED = "The guard stops a round whose mix breaks its limits: the gate's log says which, and how they are waived."
WATCHED = "Collapse is what this loop studies: the guard says what it finds in every round's gate, and stops nothing."


def build(found):
    guard = WATCHED if found.experiment else GUARDED
    told = found.model_dump(include={"name", "description", "rounds"})

    @dag(
        dag_id=f"loop_{found.name}",
        description=found.description,
        doc_md=DOC.format(**told, corpora=", ".join(f"`{name}`" for name in found.corpora), guard=guard),
        schedule=None if found.schedule == "manual" else definitions.timetable(found),
        start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        catchup=False,
        max_active_runs=1,
        default_args={**common.DEFAULTS, "owner": found.owner},
        tags=["loop", *found.corpora],
    )
    def pipeline():
        loop.rounds(found)[-1] >> loop.report(found.name)

    return pipeline()


for found in definitions.loops():
    build(found)
