"""Tasks around a study's generation on model servers: the question, the start and the stop."""

from __future__ import annotations

import datetime as dt
import logging
import os
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection, Param, TriggerRule, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from palimpsest_airflow.tasks.approve import Approve
from palimpsest_airflow.tasks.common import keep_links, stage, work

if TYPE_CHECKING:
    from palimpsest.config import Study
    from palimpsest.lake import Lake, Published

log = logging.getLogger(__name__)


def servers(study: Study) -> list[str]:
    """The servers that a strategy of the study asks; others in its file are not started."""
    return sorted({s.engine.server for s in study.strategies.values() if s.engine.server})


def params(study: Study) -> dict[str, Param]:
    """What a run by hand may choose, in the form that opens before it starts."""
    if not servers(study):
        return {}
    text = "Ask again for what failed for good: the requests listed on the page Generation."
    return {"replay": Param(False, type="boolean", title="Replay failed requests", description=text)}


def around(study: str, planned: Any, shards: Any) -> None:
    """The chain plan → approve → serve → generate → stop_serving, of tasks that are there already.

    Airflow keeps a teardown from running where its setup failed; but a start that failed, or whose process was killed,
    may have left a server behind, so this one runs whatever happened. No task comes after it: only then Airflow lets it
    fail a run (`failed_by_hand`).
    """
    approved, served = Approve(task_id="approve", study=study), serve(study)
    stopped = stop_serving(study).as_teardown(setups=served, on_failure_fail_dagrun=True)
    stopped.operator.trigger_rule = TriggerRule.ALL_DONE
    planned >> approved >> served >> shards >> stopped


def began() -> float:
    """When this try of the task began: it starts no server that was stopped since, by whoever ended the run."""
    return get_current_context()["ti"].start_date.timestamp()


def replayed() -> bool:
    """Whether the person who triggered this run wants what failed for good asked again."""
    return bool(get_current_context()["params"].get("replay"))


def keep_estimate(study: Study, lake: Lake, planned: Published) -> None:
    """What the generation will cost, as a table in the log and for the tasks `approve` and `serve`.

    A person is also asked where the study asks a generator that is in quarantine.
    """
    from palimpsest.generate.estimate import estimate
    from palimpsest.generate.ledger import Ledger
    from palimpsest.guard import quarantine

    found = estimate(study, planned, Ledger(lake), replay=replayed())
    reason, table = found.reason(study), found.table()
    models = {cost.strategy: cost.model for cost in found.costs if cost.left}
    held = quarantine.asked(study, models, lake, dt.datetime.now(dt.UTC).date())
    if held:
        reason = "; ".join([*(entry.sentence for entry in held), reason])
    log.info("%s", reason)
    for line in table.splitlines():
        log.info("%s", line)
    kept = {"ask": found.over_budget(study) or bool(held), "reason": reason, "table": table, "servers": found.servers}
    kept["quarantined"] = [entry.generator for entry in held]
    get_current_context()["ti"].xcom_push("estimate", kept)


@stage()
def serve(study: str) -> list[str]:
    """The model servers this study generates on, ready for requests; none where nothing is left to generate.

    A server that dies later is started again without this task, and a shard that is cleared brings it up by itself.
    """
    from palimpsest import serve
    from palimpsest.config import load_study

    loaded = load_study(study)
    keep_generation_link(study)
    needed = get_current_context()["ti"].xcom_pull(task_ids="plan", key="estimate")["servers"]
    found = []
    with work() as lake:
        with_keys(loaded)
        for name in servers(loaded):
            if name not in needed:
                log.info("server %s: nothing is left to ask it, so it is not started", name)
                continue
            urls = [endpoint.url for endpoint in serve.ensure(loaded, name, lake, began=began())]
            log.info("server %s is ready: %s", name, ", ".join(urls))
            found += urls
    return found


@stage()
def stop_serving(study: str) -> list[str]:
    """Stops the servers the Dag started, whatever happened before; endpoints that the study names are left alone."""
    done = stop(study)
    if failed := failed_by_hand(get_current_context()["ti"]):
        raise AirflowFailException(f"the servers are stopped; somebody ended this run during {failed}: it has failed")
    return done


def stop(study: str) -> list[str]:
    """What was done to have no server of the study running; may be called by two tasks at once."""
    from palimpsest import serve

    done = serve.stop(study)
    log.info("%s", "; ".join(done) or "no server of this study is running")
    return done


def failed_by_hand(ti: Any) -> str | None:
    """The task at which a person marked the run failed.

    Airflow then fails what runs, skips what has not begun, and lets the teardown decide: by the last task alone, which
    is skipped, it would call the run a success.
    """
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    failed = [task for task, state in states.items() if state == "failed"]
    return failed[0] if failed and states.get("collect") == "skipped" else None


def keep_generation_link(study: str) -> None:
    keep_links(Generation=f"generation/study_{study}/")


def with_keys(study: Study) -> None:
    """The passwords of the Airflow connections that servers name, where the library looks for API keys.

    Airflow masks a password it has handed out in everything the task writes to its log.
    """
    from palimpsest.config import ConfigError
    from palimpsest.serve import key_variable

    for name in servers(study):
        connection = study.servers[name].connection
        if not connection:
            continue
        try:
            password = Connection.get(connection).password
        except AirflowNotFoundException:
            password = None
        if not password:
            raise ConfigError(
                f"{study.path}: servers.{name}.connection: Airflow has no connection '{connection}' with a password; "
                "add it under Admin, Connections (type generic, the servers' API key as password)"
            )
        os.environ[key_variable(study.servers[name])] = password
