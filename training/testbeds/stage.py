"""``testbeds/digits/{quality,noise,simple,learned,batches}``: what each seed came to, a dataset per seed and part.

    python -m training testbed digits --seeds 10

A part of a seed that is published is not made again, so that a run may be broken off, and more seeds added later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from palimpsest.lake import Facts, Lake, Published
from palimpsest.machine import hardware

CODE = (
    "training/meta",
    *(
        f"training/testbeds/{name}.py"
        for name in ("arms", "digits", "features", "learned", "learner", "noise", "quality", "reweighted", "weighing")
    ),
)
NAME = "testbed_digits"
ABOUT = "Which ways to select find good digits among bad ones: weights learned by MTS, and simpler ways."

log = logging.getLogger(__name__)

Tables = dict[str, list[dict[str, object]]]


def publish(lake: Lake, part: str, seed: int) -> Published:
    """One part (`PARTS`) of a seed: a Parquet file per table, and in ``extra`` what it cost."""

    def write(directory: Path) -> Facts:
        import time

        import pyarrow as pa
        import pyarrow.parquet as pq
        import torch
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(1)
        began, spent = time.monotonic(), time.process_time()
        with threadpool_limits(1):
            tables = PARTS[part](seed)
        for name, rows in ((name, rows) for name, rows in tables.items() if rows):
            keys = dict.fromkeys(key for row in rows for key in row)
            columns = {key: [row.get(key) for row in rows] for key in keys}
            pq.write_table(pa.table(columns), directory / f"{name}.parquet")
        cost = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - spent}
        log.info("seed %d, %s: %.0f s", seed, part, cost["seconds"])
        return Facts(extra={**cost, "hardware": hardware()})

    return lake.publish(**_order(part, seed), write=write)


def _quality(seed: int) -> Tables:
    from training.testbeds import digits, features, quality

    data = digits.draw(seed)
    return {"quality": quality.measure(data, features.position(data), features.dynamics(data, seed), seed)}


def _noise(seed: int) -> Tables:
    from training.testbeds import arms, digits, noise

    data = digits.draw(seed)
    return {"noise": noise.measure(data, arms.known_of(data, seed)[0], seed)}


def _simple(seed: int) -> Tables:
    bench = _bench(seed)
    bench.simple()
    return bench.tables


def _learned(seed: int) -> Tables:
    from training.testbeds import arms

    bench = _bench(seed)
    bench.learn(arms.ASKED, _watch(seed))
    return bench.tables


def _batches(seed: int) -> Tables:
    from training.testbeds import arms

    bench = _bench(seed)
    bench.learn(arms.OTHERS, _watch(seed))
    return bench.tables


def _bench(seed: int):
    from training.testbeds import arms, digits

    data = digits.draw(seed)
    return arms.Bench(data, *arms.known_of(data, seed), seed)


def _watch(seed: int):
    """Opens a run in MLflow for an arm's looks."""
    from training import experiment

    @contextmanager
    def watch(name: str, recipe: object) -> Iterator[Callable[[Mapping[str, float], int], None]]:
        settings = {"seed": seed, **asdict(recipe)}
        with experiment.run(experiment.Experiment(NAME, ABOUT), f"{name}, seed {seed}", settings) as own:
            yield own.log_metrics

    return watch


PARTS: dict[str, Callable[[int], Tables]] = {
    "quality": _quality,
    "noise": _noise,
    "simple": _simple,
    "learned": _learned,
    "batches": _batches,
}


def main(seeds: int, parts: Sequence[str] = ()) -> Path:
    """Measure what is missing of ``parts`` (default: all) of these seeds; the path of the page of all that there is.

    The page has every part of every seed that this code has measured, so that few seeds never replace a page of many.
    """
    from training.analysis.testbed import copied, report

    lake = Lake.from_env()
    for seed in range(seeds):
        for part in parts or PARTS:
            publish(lake, part, seed)
    return copied(report(lake, [one for part in PARTS for one in _measured(lake, part)]))


def _measured(lake: Lake, part: str) -> list[Published]:
    """Of every seed, in order; what earlier code measured is left out."""
    seeds = {one.manifest["config"]["seed"] for one in lake.versions(f"testbeds/digits/{part}")}
    found = (lake.version(**_order(part, seed)) for seed in sorted(seeds))
    return [one for one in found if one]


def _order(part: str, seed: int) -> dict:
    return {"dataset": f"testbeds/digits/{part}", "config": {"seed": seed}, "code": CODE}
