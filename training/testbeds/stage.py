"""``testbeds/<testbed>/<part>``: what each seed came to, a dataset per seed and part.

    python -m training testbed digits --seeds 10

A part of a seed that is published is not made again, so that a run may be broken off, and more seeds added later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from palimpsest.lake import Facts, Lake, Published
from palimpsest.machine import hardware

log = logging.getLogger(__name__)

Tables = dict[str, list[dict[str, object]]]
"""Rows by the name of the table that they go to."""
Look = Callable[[Mapping[str, float], int], None]
"""Has the figures of a look at what is being learned, and the step."""


def _nothing(lake: Lake, seed: int) -> Sequence[Published]:
    return ()


@dataclass(frozen=True)
class Part:
    """Something that is measured of a seed."""

    measure: Callable[..., Tables]
    """Is given a seed, and the testbed's ``inputs`` of that seed."""
    code: tuple[str, ...]
    """Files and folders on which the figures hang."""


@dataclass(frozen=True)
class Testbed:
    """Data of known quality, and what is measured on it."""

    name: str
    about: str
    """Of its experiment in MLflow, ``testbed_<name>``."""
    parts: dict[str, Part]
    report: Callable[[Lake, Sequence[Published]], Published]
    """Publishes the page, of the parts that are given."""
    inputs: Callable[[Lake, int], Sequence[Published]] = _nothing
    """Published data of a seed that its parts are measured on."""


def publish(lake: Lake, testbed: Testbed, part: str, seed: int) -> Published:
    """One part of a seed: a Parquet file per table, and in ``extra`` what it cost."""
    order = _order(lake, testbed, part, seed)

    def write(directory: Path) -> Facts:
        import time

        import pyarrow as pa
        import pyarrow.parquet as pq
        import torch
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(1)
        began, spent = time.monotonic(), time.process_time()
        with threadpool_limits(1):
            tables = testbed.parts[part].measure(seed, *order["parents"])
        for name, rows in ((name, rows) for name, rows in tables.items() if rows):
            keys = dict.fromkeys(key for row in rows for key in row)
            columns = {key: [row.get(key) for row in rows] for key in keys}
            pq.write_table(pa.table(columns), directory / f"{name}.parquet")
        cost = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - spent}
        log.info("%s, seed %d, %s: %.0f s", testbed.name, seed, part, cost["seconds"])
        return Facts(extra={**cost, "hardware": hardware()})

    return lake.publish(**order, write=write)


def watch(testbed: Testbed, seed: int):
    """Opens a run in MLflow for an arm's looks, by the arm's name and its settings."""
    from training import experiment

    @contextmanager
    def opened(name: str, settings: Mapping[str, object]) -> Iterator[Look]:
        told = experiment.Experiment(f"testbed_{testbed.name}", testbed.about)
        with experiment.run(told, f"{name}, seed {seed}", {**settings, "seed": seed}) as own:
            yield own.log_metrics

    return opened


def main(testbed: Testbed, seeds: int, parts: Sequence[str] = ()) -> Path:
    """Measure what is missing of ``parts`` (default: all) of these seeds; the path of the page of all that there is.

    The page has every part of every seed that this code has measured, so that few seeds never replace a page of many.

    Raises ValueError for a part that the testbed has not.
    """
    from training.analysis.testbed import copied

    if unknown := set(parts) - set(testbed.parts):
        raise ValueError(
            f"testbed {testbed.name} has no part {', '.join(sorted(unknown))}; its parts: {', '.join(testbed.parts)}"
        )
    lake = Lake.from_env()
    for seed in range(seeds):
        for part in parts or testbed.parts:
            publish(lake, testbed, part, seed)
    return copied(testbed.report(lake, [one for part in testbed.parts for one in _measured(lake, testbed, part)]))


def _measured(lake: Lake, testbed: Testbed, part: str) -> list[Published]:
    """Of every seed, in order; what earlier code measured is left out."""
    seeds = {one.manifest["config"]["seed"] for one in lake.versions(f"testbeds/{testbed.name}/{part}")}
    found = (lake.version(**_order(lake, testbed, part, seed)) for seed in sorted(seeds))
    return [one for one in found if one]


def _order(lake: Lake, testbed: Testbed, part: str, seed: int) -> dict:
    return {
        "dataset": f"testbeds/{testbed.name}/{part}",
        "config": {"seed": seed},
        "parents": testbed.inputs(lake, seed),
        "code": testbed.parts[part].code,
    }
