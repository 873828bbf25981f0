"""Tasks of a testbed's Dag: every part of a seed, and the page of all of them."""

from __future__ import annotations

import logging

from palimpsest_airflow.tasks.common import Ref, opened, stage, work

log = logging.getLogger(__name__)


@stage(pool="train", map_index_template="seed {{ task.op_kwargs['seed'] }}")
def measure(seed: int) -> list[Ref]:
    """Measures what is missing of a seed."""
    from training.testbeds.stage import PARTS, publish

    with work() as lake:
        return [publish(lake, part, seed).ref for part in PARTS]


@stage()
def report(measured: list[list[Ref]]) -> Ref:
    """The page: acceptance figures, every arm, signal and noise, features, figures."""
    from training.analysis.testbed import report

    with work() as lake:
        published = report(lake, [opened(lake, ref) for refs in measured for ref in refs])
    log.info("%s\n%s", published.uri, published.extra["headline"])
    return published.ref
