"""Pages examined by several workers at a time, each page bounded as by one; what comes of them keeps their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Generic, TypeVar

from palimpsest.config import ConfigError
from palimpsest.ingest.worker import Poisoned, Worker
from palimpsest.machine import cores

MOST = 16  # unless the setting says more: one process reads and writes for all
AHEAD = 4  # items per worker in memory: one that takes long does not leave the other workers without work
Item = TypeVar("Item")


def processes() -> int:
    """Workers of an extraction: as many as the setting says, else as this process may use cores, at most 16."""
    said = os.environ.get("PALIMPSEST_EXTRACTION_PROCESSES") or str(min(cores(), MOST))
    if not said.isdecimal() or int(said) < 1:
        raise ConfigError(
            f"PALIMPSEST_EXTRACTION_PROCESSES: '{said}' is no number of processes; set it to 1 or more, or leave it out"
        )
    return int(said)


@dataclass
class _Task(Generic[Item]):
    item: Item
    done: bool
    outcome: Any = None


class Workers:
    """``count`` workers that call ``function``."""

    def __init__(self, count: int, function: Callable[..., Any], timeout_s: float, memory_mb: int) -> None:
        self._idle = [Worker(function, timeout_s, memory_mb) for _ in range(count)]
        self._busy: dict[Worker, _Task] = {}
        self._window = AHEAD * count

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in [*self._idle, *self._busy]:
            worker.__exit__(kind, error, trace)

    def each(self, asked: Iterable[tuple[Item, tuple | None]]) -> Iterator[tuple[Item, Any]]:
        """Each item with what the function returns for its arguments, or the `Poisoned` that it raised; with None where
        there are no arguments. In the order of ``asked``, of which a few items per worker are read ahead.
        """
        tasks: deque[_Task[Item]] = deque()
        for item, arguments in asked:
            tasks.append(_Task(item, arguments is None))
            if arguments is not None:
                while not self._idle:
                    self._wait()
                worker = self._idle.pop()
                self._busy[worker] = tasks[-1]
                worker.ask(*arguments)
            while len(tasks) > self._window and not tasks[0].done:
                self._wait()
            while tasks and tasks[0].done:
                yield self._outcome(tasks)
        while tasks:
            while not tasks[0].done:
                self._wait()
            yield self._outcome(tasks)

    def _wait(self) -> None:
        """Until a worker has answered, died or was ended; or for as long as none need be looked at."""
        ready = wait([worker.pipe for worker in self._busy], min(worker.look_s for worker in self._busy))
        for worker, task in list(self._busy.items()):
            try:
                if worker.pipe not in ready:
                    worker.look()
                    continue
                task.outcome = worker.answer()
            except Poisoned as poison:
                task.outcome = poison
            task.done = True
            del self._busy[worker]
            self._idle.append(worker)

    @staticmethod
    def _outcome(tasks: deque[_Task[Item]]) -> tuple[Item, Any]:
        task = tasks.popleft()
        return task.item, task.outcome
