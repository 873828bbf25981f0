"""Our client, in a process of its own: ``python -m tests.benchmarks.serving.ours engine|shard STUDY.yaml LAKE``.

Prints the seconds from the first request's preparation to the last outcome, and the output tokens. 'engine' is what
speaks to the server alone; 'shard' is all that a task does: what is left, leases, review, ledger, catalog.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from palimpsest.generate.engines import open_engine
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Lake
from tests.benchmarks.serving.study import STRATEGY, Planned, planned


def engine(found: Planned) -> int:
    requests = found.requests()
    opened = open_engine(found.study, STRATEGY, found.lake)
    outcomes = list(opened.generate(requests))
    failed = [outcome for outcome in outcomes if outcome.text is None]
    if failed or len(outcomes) != len(requests):
        raise RuntimeError(f"{len(failed)} of {len(outcomes)} outcomes have no text: {failed[:1]}")
    return sum(outcome.output_tokens for outcome in outcomes)


def shard(found: Planned) -> int:
    generate_shard(found.study, found.lake, split=found.split, plan=found.plan, shard=0)
    return 0


def main(what: str, file: str, lake: str) -> None:
    found = planned(Path(file), Lake(lake))
    started = time.perf_counter()
    tokens = {"engine": engine, "shard": shard}[what](found)
    print(json.dumps({"seconds": time.perf_counter() - started, "tokens": tokens}))


if __name__ == "__main__":
    main(*sys.argv[1:])
