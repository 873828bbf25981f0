"""``testbeds/<testbed>/<part>``: what each seed came to, a dataset per seed and part.

    python -m training testbed digits --seeds 10

A part of a seed that is published is not made again, so that a run may be broken off, and more seeds added later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from palimpsest.lake import Facts, Lake, Published
from palimpsest.machine import hardware

log = logging.getLogger(__name__)

Tables = dict[str, list[dict[str, object]]]
"""Rows by the name of the table that they go to."""
Look = Callable[[Mapping[str, float], int], None]
"""Has the figures of a look at what is being learned, and the step."""
Watch = Callable[[str, Mapping[str, object]], AbstractContextManager[Look]]
"""Opens a run for an arm's looks, by the arm's name and its settings."""


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
    report: Callable[[Lake, Sequence[Published], str], Published]
    """Publishes the page, of the parts that are given; it says, too, what is missing."""
    inputs: Callable[[Lake, int], Sequence[Published]] = _nothing
    """Data of a seed that its parts are measured on, published where it is not."""
    known: Callable[[Lake, int], Sequence[Published] | None] = _nothing
    """The same data, None where this code has not published it."""


def publish(lake: Lake, testbed: Testbed, part: str, seed: int) -> Published:
    """One part of a seed: a Parquet file per table, and in ``extra`` what it cost."""
    order = _order(testbed, part, seed, testbed.inputs(lake, seed))

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


def watch(testbed: str, about: str, seed: int) -> Watch:
    """Opens runs in MLflow, experiment ``testbed_<name>``, which ``about`` describes there."""
    from training import experiment

    @contextmanager
    def opened(name: str, settings: Mapping[str, object]) -> Iterator[Look]:
        told = experiment.Experiment(f"testbed_{testbed}", about)
        with experiment.run(told, f"{name}, seed {seed}", {**settings, "seed": seed}) as own:
            yield own.log_metrics

    return opened


def main(testbed: Testbed, seeds: int, parts: Sequence[str] = ()) -> Path:
    """Measure what is missing of ``parts`` (default: all) of these seeds; the path of the page of all that there is.

    So few seeds never replace a page of many (`report`).

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
    return copied(report(lake, testbed))


def report(lake: Lake, testbed: Testbed) -> Published:
    """The page of every part of every seed that this code has measured, and nothing that other code has."""
    published, missing = measured(lake, testbed)
    if missing:
        log.warning("%s: %s", testbed.name, missing)
    return testbed.report(lake, published, missing)


def measured(lake: Lake, testbed: Testbed) -> tuple[list[Published], str]:
    """Every part of every seed that this code has measured, and a sentence on what is missing.

    That is parts that other seeds or earlier code have measured. To look makes nothing.
    """
    names = [f"testbeds/{testbed.name}/{part}" for part in testbed.parts]
    seeds = sorted({one.manifest["config"]["seed"] for name in names for one in lake.versions(name)})
    inputs = {seed: testbed.known(lake, seed) for seed in seeds}
    known = {seed: own for seed, own in inputs.items() if own is not None}
    published, missing = [], []
    for part in testbed.parts:
        found = {seed: lake.version(**_order(testbed, part, seed, own)) for seed, own in known.items()}
        published += [one for one in found.values() if one]
        if without := [str(seed) for seed in seeds if not found.get(seed)]:
            missing.append(f"{part} of seed{'s' * (len(without) > 1)} {', '.join(without)}")
    told = "Not here, because this code has not measured it on the data that is here"
    return published, f"{told}: {'; '.join(missing)}." if missing else ""


def _order(testbed: Testbed, part: str, seed: int, inputs: Sequence[Published]) -> dict:
    return {
        "dataset": f"testbeds/{testbed.name}/{part}",
        "config": {"seed": seed},
        "parents": inputs,
        "code": testbed.parts[part].code,
    }
