"""An engine at work in a thread of its own, and its outcomes committed in groups: also while it is silent."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from palimpsest.generate.engines import Engine
from palimpsest.generate.requests import Outcome, Request

log = logging.getLogger(__name__)

COMMIT_ROWS = 256
COMMIT_S = 1.0
"""Outcomes are committed when there are so many, or so long after the first of them: what a crash can cost."""
TICK_S = 1.0
UNCOMMITTED = 2_048
"""Outcomes that may wait for a slow commit; then the engine does."""
JOIN_S = 5.0
"""How long an engine may take to abort what is in flight; a thread that is stuck ends with the process."""


def drive(
    engine: Engine,
    requests: Iterable[Request],
    *,
    commit: Callable[[list[Outcome]], None],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Ask an engine these requests until all are answered; ``commit`` gets the outcomes, each once.

    ``tick`` is called about once a second. Whatever goes wrong, in the engine, the requests, ``commit`` or ``tick``,
    or when the process is interrupted: what is finished is committed, what is in flight aborted, the error raised.
    """
    pump = _Pump(engine, requests)
    batch: list[Outcome] = []
    due = beat = time.monotonic() + TICK_S
    try:
        while True:
            item = pump.next(max(0.0, min(due if batch else beat, beat) - time.monotonic()))
            if isinstance(item, Outcome):
                if not batch:
                    due = time.monotonic() + COMMIT_S
                batch.append(item)
            now = time.monotonic()
            if batch and (len(batch) >= COMMIT_ROWS or now >= due or item is _END):
                try:
                    commit(batch)
                except Exception:
                    batch = []
                    raise
                batch = []  # an interrupt leaves it: committed once more below, the same rows are the same segment
            if now >= beat:
                tick()
                beat = now + TICK_S
            if isinstance(item, BaseException):
                raise item
            if item is _END:
                return
    except BaseException:
        for group in (batch, pump.stop()):
            if group:
                commit(group)
        raise
    finally:
        pump.stop()


_END = object()


class _Pump:
    """Takes outcomes out of an engine, from a thread."""

    def __init__(self, engine: Engine, requests: Iterable[Request]) -> None:
        self._engine = engine
        self._requests = requests
        self._stopped = threading.Event()
        self._items: queue.Queue[object] = queue.Queue(UNCOMMITTED)
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> object:
        """An outcome, the error that ended the engine, `_END`, or None: nothing in that time."""
        try:
            return self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def stop(self) -> list[Outcome]:
        """Abort what is in flight; the outcomes that were there already."""
        found = []
        deadline = time.monotonic() + (0.0 if self._stopped.is_set() else JOIN_S)
        self._stopped.set()
        while self._thread.is_alive() and time.monotonic() < deadline:
            found.append(self.next(0.1))
        while not self._items.empty():
            found.append(self._items.get_nowait())
        return [item for item in found if isinstance(item, Outcome)]

    def _work(self) -> None:
        outcomes = self._engine.generate(self._feed())
        try:
            for outcome in outcomes:
                self._put(outcome)
                if self._stopped.is_set():
                    return
            self._put(_END)
        except BaseException as error:  # noqa: BLE001 - raised again by `drive`
            self._put(error)
        finally:
            outcomes.close()

    def _feed(self) -> Iterator[Request]:
        for request in self._requests:
            if self._stopped.is_set():
                return
            yield request

    def _put(self, item: object) -> None:
        while True:
            try:
                return self._items.put(item, timeout=0.5)
            except queue.Full:
                if self._stopped.is_set():
                    return
