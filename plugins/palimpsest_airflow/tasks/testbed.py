"""Tasks of a testbed's Dag: every part of a seed, and the page of all of them."""

from __future__ import annotations

import logging

from palimpsest_airflow.tasks.common import Ref, stage, work

log = logging.getLogger(__name__)


@stage(pool="train", map_index_template="seed {{ task.op_kwargs['seed'] }}")
def measure(name: str, seed: int) -> list[Ref]:
    """Measures what is missing of a seed."""
    from training.testbeds.registry import TESTBEDS
    from training.testbeds.stage import publish

    with work() as lake:
        return [publish(lake, TESTBEDS[name], part, seed).ref for part in TESTBEDS[name].parts]


@stage()
def report(name: str) -> list[Ref]:
    """The page: what is asked and whether it is met, every arm, figures, of all that this code has measured; and the
    page of all testbeds side by side.
    """
    from training.testbeds.registry import TESTBEDS, overview
    from training.testbeds.stage import report

    with work() as lake:
        published = [report(lake, TESTBEDS[name]), overview(lake)]
    for page in published:
        log.info("%s\n%s", page.uri, page.extra["headline"])
    return [page.ref for page in published]
