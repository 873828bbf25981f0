"""The fate of every planned generation, in the plan's order, shared among processes where there are many."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context

from palimpsest.config import Study
from palimpsest.generate.generations import Fate, Generation, fate
from palimpsest.generate.review import Reviewer, open_reviewer
from palimpsest.generate.segments import Row

CHUNK = 1_024
"""Generations in memory at a time, per process."""
POOL_FROM = 20_000
"""Requests from which reviewing (a millisecond each) is shared among processes, which take seconds to start."""

Decided = list[tuple[Generation, Fate]]


def fates(
    study: Study,
    reviewers: Mapping[str, Reviewer],
    generations: Iterator[Generation],
    rows: Iterator[Row | None],
    requests: int,
) -> Iterator[Decided]:
    """Each generation with its fate, in order, some at a time."""
    work = (
        (part, [list(islice(rows, g.size)) for g in part])
        for part in iter(lambda: list(islice(generations, CHUNK)), [])
    )
    processes = min(len(os.sched_getaffinity(0)), 16) - 1
    if processes < 2 or requests < POOL_FROM:
        for part, found in work:
            yield list(zip(part, _fates(part, found, reviewers), strict=True))
        return
    waiting: deque[tuple[list[Generation], Future]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn"), _open_reviewers, (study,)) as pool:
        for part, found in work:
            waiting.append((part, pool.submit(_fates, part, found)))
            if len(waiting) > 2 * processes:
                done, future = waiting.popleft()
                yield list(zip(done, future.result(), strict=True))
        for done, future in waiting:
            yield list(zip(done, future.result(), strict=True))


_reviewers: dict[str, Reviewer] = {}
"""Of this process, if it is one of a pool."""


def _open_reviewers(study: Study) -> None:
    _reviewers.update({name: open_reviewer(study, name) for name in study.strategies})


def _fates(
    part: Sequence[Generation], found: Sequence[Sequence[Row | None]], reviewers: Mapping[str, Reviewer] | None = None
) -> list[Fate]:
    known = _reviewers if reviewers is None else reviewers
    return [fate(g, rows, known[g.planned[0]["strategy"]]) for g, rows in zip(part, found, strict=True)]
