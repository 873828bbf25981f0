"""Task approve, where a study asks a generator in quarantine."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest

from palimpsest.catalog import Catalog
from palimpsest.guard import quarantine

pytestmark = pytest.mark.usefixtures("airflow_home")
ESTIMATE = {"ask": True, "reason": "it is in quarantine", "table": "", "servers": [], "quarantined": ["org/model@1"]}


def answered(option: str):
    from airflow.sdk.execution_time.context import set_current_context

    from palimpsest_airflow.tasks.approve import Approve

    ti = SimpleNamespace(xcom_pull=lambda task_ids, key: ESTIMATE, xcom_push=lambda key, value: None, id="1")
    event = {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": dt.datetime.now(dt.UTC),
        "responded_by_user": {"id": "1", "name": "Ada"},
    }
    found = {"ti": ti, "task_instance": ti}
    with set_current_context(found):
        return Approve(task_id="approve", study="toy").execute_complete(found, event)


def test_who_lets_a_study_ask_a_quarantined_generator_is_kept(lake):
    catalog = Catalog.from_env()
    catalog.ready()
    catalog.close()
    assert answered("Approve")["approved_by"] == "Ada"
    (event,) = quarantine.history(lake)
    assert (event["event"], event["generator"], event["study"], event["by"]) == (
        "approved", "org/model@1", "toy", "Ada",
    )  # fmt: skip


def test_rejecting_says_that_the_quarantine_can_be_lifted(lake):
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="ask another generator, or lift its quarantine"):
        answered("Reject")
    assert quarantine.history(lake) == []
