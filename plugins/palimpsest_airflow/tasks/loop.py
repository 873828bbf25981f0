"""Tasks of a loop Dag: its rounds are Dags of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import TriggerRule, get_current_context
from airflow.sdk.exceptions import AirflowFailException

from palimpsest_airflow.tasks.common import Ref, keep_links, stage, work

if TYPE_CHECKING:
    from palimpsest.config import Loop

DOC = "Runs Dag `study_{study}` to its end. Cleared, it takes up the run it had: what is in the lake is not made again."


def rounds(loop: Loop) -> list[Any]:
    """One task per round, each waiting for the one before it."""
    tasks = [
        TriggerDagRunOperator(
            task_id=f"round_{number}",
            trigger_dag_id=f"study_{study}",
            trigger_run_id="{{ run_id }}",
            reset_dag_run=True,
            wait_for_completion=True,
            fail_when_dag_is_paused=True,
            deferrable=True,
            poke_interval=15,
            doc_md=DOC.format(study=study),
        )
        for number, study in enumerate(loop.studies)
    ]
    for before, after in zip(tasks, tasks[1:], strict=False):
        before >> after
    return tasks


@stage(trigger_rule=TriggerRule.ALL_DONE)
def report(loop: str) -> Ref:
    """What became of each arm, as far as the rounds came; fails after that if one of them did not end."""
    from palimpsest.config import load_loop
    from training.rounds import report
    from training.track import open_parent

    loaded, ti = load_loop(loop), get_current_context()["ti"]
    parent = open_parent(loaded)
    keep_links(Report=f"report/loop_{loop}/", MLflow=f"#/runs/{parent}")
    with work() as lake:
        published = report(loaded, lake, parent_run_id=parent)
    done = published.extra["rounds"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    failed = sorted(task for task, state in states.items() if task.startswith("round_") and state != "success")
    if failed:
        study = f"study_{loop}_{failed[0]}"
        raise AirflowFailException(
            f"{failed[0]} did not end; see the run of Dag {study} with this run's id, mend it and clear {failed[0]} "
            f"here. The report has rounds 0 to {done}."
        )
    return published.ref
