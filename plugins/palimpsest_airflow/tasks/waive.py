"""The question a study asks a person when the collapse guard stopped it, and nothing else did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from palimpsest_airflow.tasks import study as tasks
from palimpsest_airflow.tasks.approve import QUESTIONS, ask_one_thing_only
from palimpsest_airflow.tasks.common import keep_guard, opened, work

if TYPE_CHECKING:
    from palimpsest.config import Study

DOC = """Waits for a person where the collapse guard alone stopped the gate (too little real text, depth, decoding, rare
words); goes on by itself where it did not.

The breaches are under *Required Actions*, with what could be changed instead and what the probes of generated text
found. To waive them, write why and approve: the waiver is kept in the lake with
who, when, why and the verdicts it covers, holds for this very data and for 30 days, and stands in the report. Rejecting
ends the run; the log then says what to change."""
WHY = "Why the study may go on all the same; it is kept with your name and shown in the report."


def checked(study: Study, mixes: Any) -> Any:
    """The chain [probe →] gate → waive: what ``gate`` returned, or returns once somebody has answered for its finds."""
    probed = tasks.probe(study.name, mixes) if study.guard.probe else mixes
    form = {"why": Param("", type="string", title="Why", description=WHY)}
    return Waive(task_id="waive", study=study.name, so_far=tasks.gate(study.name, probed), params=form).output


class Waive(ApprovalOperator):
    """What gate returned; where it left breaches, after somebody has answered for them and the gate has run again."""

    template_fields = (*ApprovalOperator.template_fields, "so_far")

    def __init__(self, *, study: str, so_far: Any, **options: Any) -> None:
        super().__init__(
            subject=f"Waive the collapse guard for study {study}?",
            doc_md=DOC,
            retries=QUESTIONS,
            **options,
        )
        self.study = study
        self.so_far = so_far

    def execute(self, context: Any) -> Any:
        breaches = context["ti"].xcom_pull(task_ids="gate", key="breaches")
        if not breaches:
            self.log.info("nothing to waive: the gate let this study through")
            return self.so_far
        self.body = "\n\n".join(map(_asked, breaches))
        if report := context["ti"].xcom_pull(task_ids="gate", key="probes"):
            found = "\n".join(f"- {line}" for line in report.replace("\n  ", "; ").splitlines())
            self.body += f"\n\n**What the probes found**\n\n{found}"
        ask_one_thing_only(
            context["task_state_store"], self.body, f"study {self.study}: what the guard found is another"
        )
        self.log.info("waiting for an answer:\n%s", self.body)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        answer = event["chosen_options"][0] if event.get("chosen_options") else None
        person = (event.get("responded_by_user") or {}).get("name") or "nobody"
        when = event["responded_at"].isoformat(timespec="seconds") if event.get("responded_at") else None
        breaches = context["ti"].xcom_pull(task_ids="gate", key="breaches")
        if answer == self.REJECT:
            raise AirflowFailException(
                f"study {self.study}: no waiver, says {person} at {when}. "
                f"{'; '.join(breach['sentence'] for breach in breaches)}. Change the study (less synthetic text, "
                "another generator or decoding) or its 'guard'; then trigger the Dag again"
            )
        super().execute_complete(context, event)
        why = (event.get("params_input") or {}).get("why") or ""
        report = context["ti"].xcom_pull(task_ids="gate", key="probes") or ""
        return self._gate_again(breaches, report, person, str(why), when)

    def _gate_again(self, breaches: list[dict], report: str, person: str, why: str, when: str) -> dict[str, Any]:
        from expectations.gate import gate_study
        from expectations.guard import waivers
        from expectations.guard.history import publish_history
        from palimpsest.config import load_study

        study = load_study(self.study)
        keep_guard(self.study)
        with work() as lake:
            inputs = {name: opened(lake, self.so_far[name]) for name in tasks.gated(self.so_far)}
            data = [inputs[name] for name in tasks.GATED]
            try:
                kept = waivers.record(
                    study, lake, data=data, covers=breaches, by=person, why=why, at=when, report=report
                )
                self.log.info("waived by %s at %s: %s (%s)", person, when, why, kept.uri)
                verdict = gate_study(study, lake, **inputs)
                publish_history(study, lake)
            except ValueError as error:  # asking the same again would not help, whatever this task's retries
                raise AirflowFailException(str(error)) from error
            keep_guard(self.study, verdict.extra["data_docs"])
            return {**self.so_far, "gate": verdict.ref}


def _asked(breach: dict[str, Any]) -> str:
    response = breach["details"].get("response")
    return f"**{breach['gate']}** {breach['sentence']}" + (f"\n\n*Instead:* {response}" if response else "")
