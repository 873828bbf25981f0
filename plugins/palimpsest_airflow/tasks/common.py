"""What every task has in common: when it is tried again, which lake it works on, how long its own work took."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, get_current_context, task

if TYPE_CHECKING:
    from palimpsest.lake import Lake, Published

Ref = dict[str, str]
"""URI and digest of a published dataset: all that travels between tasks."""

BUGS = [ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, TypeError]
DEFAULTS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": dt.timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": dt.timedelta(minutes=10),
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=[ConnectionError, TimeoutError], reason="weather: tried again after a pause"),
            RetryRule(exception=[ValueError, OSError], action=RetryAction.FAIL, reason="trying again cannot help"),
            RetryRule(exception=BUGS, action=RetryAction.FAIL, reason="a bug: trying again cannot help"),
        ]
    ),
}


def stage(**options: Any) -> Callable[[Callable], Any]:
    """A task with its docstring shown in the UI, mapped or not, that returns one value.

    Left to itself, Airflow drops the docstring of a mapped task and takes a dictionary apart, one request per key.
    """

    def decorate(function: Callable) -> Any:
        return task(multiple_outputs=False, doc_md=function.__doc__, **options)(function)

    return decorate


@contextmanager
def work() -> Iterator[Lake]:
    """The lake to work on; what is published in it is entered in the catalog, also when the task then fails.

    The time spent inside is the stage's own work, told apart from process start-up.
    """
    from palimpsest.catalog import Catalog
    from palimpsest.lake import Lake

    lake = Lake.from_env()
    started = time.time()
    try:
        yield lake
    finally:
        if lake.published:
            Catalog.from_env().record(*lake.published)
        get_current_context()["ti"].xcom_push("work", [round(started, 2), round(time.time(), 2)])


def keep_links(**addresses: str) -> None:
    """Addresses behind the buttons on this task's page (`palimpsest_airflow.links`)."""
    get_current_context()["ti"].xcom_push("links", addresses)


def keep_run(run_id: str) -> None:
    """The button to a run in MLflow."""
    keep_links(MLflow=f"#/runs/{run_id}")


def keep_data_docs(page: str = "") -> None:
    """The page of this gate's verdict; before there is one, and if the gate fails, the list of all gates."""
    keep_links(**{"Data Docs": f"data-docs/{page}"})


def keep_guard(study: str, page: str = "") -> None:
    """The same, and the page of the study's collapse guard."""
    keep_links(**{"Data Docs": f"data-docs/{page}", "Guard": f"guard/study_{study}/"})


def opened(lake: Lake, ref: Ref) -> Published:
    return lake.open(ref["uri"], ref["digest"])
