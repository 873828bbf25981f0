"""What a study asks a person before it spends more GPU hours than its budget, or asks a generator in quarantine."""

from __future__ import annotations

import hashlib
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException

from palimpsest_airflow.tasks.common import work

DOC = """Waits for a person where the plan's estimate is above `budget_gpu_hours`, or the study asks a generator whose
text the collapse guard stopped before (`python -m palimpsest guard quarantine list`); goes on by itself otherwise.

The estimate and the two answers are under *Required Actions*. Waiting takes no worker and no pool slot. Rejecting ends
the run; the log then says what to change."""

QUESTIONS = 20
"""How often it may be asked. Airflow 3.3's scheduler takes an answer that comes before it has noticed that the task
waits (a second; more on a busy machine) for a crash of the task, which is tried again and asks again."""


class Approve(ApprovalOperator):
    """The answer to the estimate that task ``plan`` left: whose, and when; rejecting it fails the run for good.

    Failing, because a run that was to end in a report and has none did not succeed.
    """

    def __init__(self, *, study: str, **options: Any) -> None:
        super().__init__(subject=f"Generate for study {study}?", doc_md=DOC, retries=QUESTIONS, **options)
        self.study = study

    def execute(self, context: Any) -> Any:
        estimate = context["ti"].xcom_pull(task_ids="plan", key="estimate")
        if not estimate["ask"]:
            self.log.info("no approval needed: %s", estimate["reason"])
            return {"approved_by": None, "reason": estimate["reason"]}
        self.log.info("waiting for approval: %s\n%s", estimate["reason"], estimate["table"])
        self.body = f"{estimate['reason']}\n\n{estimate['table']}"
        ask_one_thing_only(context["task_state_store"], str(self.body), f"study {self.study}: the estimate is another")
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        answer = event["chosen_options"][0] if event.get("chosen_options") else None
        person = (event.get("responded_by_user") or {}).get("name") or "nobody"
        when = event["responded_at"].isoformat(timespec="seconds") if event.get("responded_at") else None
        estimate = context["ti"].xcom_pull(task_ids="plan", key="estimate") or {}
        held = estimate.get("quarantined") or []
        if answer == self.REJECT:
            other = "ask another generator, or lift its quarantine" if held else "raise its 'budget_gpu_hours'"
            raise AirflowFailException(
                f"study {self.study}: generating was rejected by {person} at {when}. Ask for less in the study file "
                f"(fewer 'generations' or strategies, a smaller model) or {other}; then trigger the Dag again"
            )
        super().execute_complete(context, event)
        if held:
            from palimpsest.guard import quarantine

            with work() as lake:
                for generator in held:
                    quarantine.approve(lake, generator, study=self.study, by=person)
        self.log.info("approved by %s at %s", person, when)
        return {"approved_by": person, "at": when}


def ask_one_thing_only(memory: Any, question: str, other: str) -> None:
    """Airflow 3.3 shows a task's first question also when the task was cleared and asks something else."""
    asking = hashlib.sha256(question.encode()).hexdigest()
    if memory.get("asked", asking) != asking:
        raise AirflowFailException(
            f"{other} one than when this run asked first, and Airflow would show the first; trigger the Dag again "
            "instead of clearing tasks of this run"
        )
    memory.set("asked", asking)
