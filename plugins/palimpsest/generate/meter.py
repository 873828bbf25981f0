"""Where an engine's seconds went: what each request cost, and that all of it adds up to the clock on the wall."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

Spent = Literal["useful", "repaid", "failed"]
"""Gave a text; was lost (crash, reset, time limit) and is paid again; ended without a text."""


@dataclass(frozen=True)
class Usage:
    """Seconds since the engine's first request: ``wall = paid + idle``, ``paid = useful + repaid + failed + pending``.

    ``pending`` is the share of what is in flight at this moment; it is 0 once the engine has ended.
    """

    wall: float
    paid: float
    useful: float
    repaid: float
    failed: float
    idle: float
    pending: float


class Meter:
    """Splits busy time evenly over the requests in flight, so that their seconds add up to the engine's.

    A second in which 100 requests are in flight costs each of them 10 ms; one in which none is, is idle. Kept as one
    running sum of (time / requests in flight), so an event costs the same whatever is in flight. Safe to read from
    other threads.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: float | None = None
        self._last = 0.0
        self._share = 0.0  # seconds that a request in flight since the beginning would have cost
        self._idle = 0.0
        self._spent: Counter[str] = Counter(useful=0.0, repaid=0.0, failed=0.0)
        self._flying: dict[Hashable, tuple[set[str], float]] = {}
        self._count = 0

    def begin(self) -> None:
        """Start the clock on the wall, if it does not run yet."""
        with self._lock:
            self._advance()

    def started(self, id: Hashable, keys: Iterable[str]) -> None:
        """These requests are in flight now, together, under a name no other has."""
        with self._lock:
            self._advance()
            if id in self._flying:
                raise ValueError(f"'{id}' is in flight already")
            wanted = set(keys)
            self._flying[id] = (wanted, self._share)
            self._count += len(wanted)

    def ended(self, id: Hashable, spent: Spent, keys: Iterable[str] | None = None) -> float:
        """Seconds that each of these (default: all) requests of ``id`` has cost; the others stay in flight."""
        with self._lock:
            self._advance()
            flying, since = self._flying[id]
            gone = set(flying if keys is None else keys)
            if not gone <= flying:
                raise ValueError(f"not in flight under '{id}': {sorted(gone - flying)}")
            flying -= gone
            if not flying:
                del self._flying[id]
            self._count -= len(gone)
            each = self._share - since
            self._spent[spent] += each * len(gone)
            return each

    def drop(self, id: Hashable) -> None:
        """Whatever of ``id`` is still in flight was for nothing."""
        if id in self._flying:
            self.ended(id, "repaid")

    def snapshot(self) -> Usage:
        """The seconds until now."""
        with self._lock:
            self._advance()
            pending = sum(len(keys) * (self._share - since) for keys, since in self._flying.values())
            paid = self._spent.total() + pending
            return Usage(paid + self._idle, paid, **self._spent, idle=self._idle, pending=pending)

    def _advance(self) -> None:
        now = self._clock()
        passed = 0.0 if self._begun is None else now - self._last
        if self._begun is None:
            self._begun = now
        self._last = now
        if self._count:
            self._share += passed / self._count
        else:
            self._idle += passed
