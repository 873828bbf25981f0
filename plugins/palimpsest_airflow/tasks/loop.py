"""Tasks of a loop Dag: its rounds are Dags of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, TriggerRule, get_current_context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from palimpsest_airflow.tasks.common import Ref, keep_links, stage, work

if TYPE_CHECKING:
    from palimpsest.config import Loop

MENDED_THERE = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[AirflowException],
            action=RetryAction.FAIL,
            reason="the round's own Dag has failed and is mended there; trying again would clear its run",
        )
    ]
)
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
            retry_policy=MENDED_THERE,
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
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    stopped = next((f"round_{n}" for n in range(loaded.rounds + 1) if states.get(f"round_{n}") != "success"), None)
    with work() as lake:
        published = report(loaded, lake, parent_run_id=parent) if stopped != "round_0" else None
    if stopped:
        told = f"the report has rounds 0 to {published.extra['rounds']}" if published else "there is nothing to report"
        raise AirflowFailException(
            f"{stopped} did not end: see the run of Dag study_{loop}_{stopped} with this run's id, mend it and clear "
            f"{stopped} here; {told}"
        )
    return published.ref
