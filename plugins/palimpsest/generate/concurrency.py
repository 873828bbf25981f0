"""How much may be in flight at one server: as much as it can batch and a queue behind it, less when it says so."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

FIRST = 128
"""Samples in flight to begin with."""
RAMP_S = 10.0
"""After its start a window is looked after more often."""
BLIND = 512
"""At most, at a server whose queue cannot be seen (no vLLM metrics)."""
LARGEST = 16_384
QUEUE_LOW, QUEUE_HIGH = 0.5, 2.0
"""Waiting samples per running one: below the first the window grows, above the second it shrinks. A queue costs
nothing (what waits has used no engine time) and half a batch of it means that a batch ending at once is replaced."""
QUEUE_LEAST = 32
STEP = 16
"""Additive increase, in samples per window's worth of answers where only answers can be seen."""
BACKOFF_S, BACKOFF_MOST_S = 0.5, 30.0


class Window:
    """Samples that may be in flight at a server; requests with n samples take n, because each takes a slot there.

    Additive increase and multiplicative decrease (as in TCP): 429, 503 and time limits halve it, once per round trip.
    Where the server shows its queue (vLLM's /metrics), it doubles while the server could take more at once, grows by
    steps until the queue is comfortable, and gives way slowly when the queue is long, so that several clients of one
    server end up with fair shares.
    """

    def __init__(self, size: float = FIRST, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.size = float(size)
        self.in_flight = 0
        self.paused_until = 0.0
        self._cut_at = float("-inf")
        self._sees_queue = False
        self._was_full = self._grew = False
        self._began = clock()

    def room(self, n: int) -> bool:
        """Whether ``n`` more samples may be sent. One request always may, however small the window."""
        if self.clock() < self.paused_until:
            return False
        if self.in_flight and self.in_flight + n > self.size:
            self._was_full = True
            return False
        return True

    def take(self, n: int) -> None:
        self.in_flight += n

    def give(self, n: int) -> None:
        self.in_flight -= n

    def answered(self, n: int) -> None:
        """``n`` samples came back; only where the server's queue cannot be seen does that open the window."""
        if not self._sees_queue and self._was_full:
            self.size = max(self.size, min(self.size + STEP * n / self.size, BLIND))

    def refused(self, sent_at: float, *, wait_s: float | None = None) -> None:
        """A request sent at ``sent_at`` was turned away, or took too long: half the window, once per round trip."""
        if wait_s:
            self.paused_until = max(self.paused_until, self.clock() + wait_s)
        if sent_at > self._cut_at:
            self.size = max(1.0, min(self.size, self.in_flight) / 2)
            self._cut_at = self.clock()

    def observe(self, running: int, waiting: int) -> None:
        """What the server's metrics show now."""
        self._sees_queue, before = True, self.size
        enough = max(QUEUE_LEAST, QUEUE_LOW * running)
        if waiting > max(4 * QUEUE_LEAST, QUEUE_HIGH * running):
            self.size = max(1.0, min(self.size, self.in_flight) * 0.9)
        elif waiting < enough and self._was_full:
            grown = self.size * 2 if not waiting and not self.recovering else self.size + max(STEP, enough - waiting)
            self.size = min(grown, LARGEST)
        self._was_full, self._grew = False, self.size > before

    @property
    def recovering(self) -> bool:
        """It was refused lately: grow by steps, do not double."""
        return self.clock() - self._cut_at < 30

    @property
    def ramping(self) -> bool:
        """It may have to grow more: look at the server's queue again soon."""
        return self._grew or self.clock() - self._began < RAMP_S

    def restart(self) -> None:
        """The server was away; what it could batch before is a good guess of what it can batch now."""
        self.size = max(FIRST, self.size / 2)
        self.paused_until = 0.0
        self._cut_at = float("-inf")
        self._began = self.clock()


def backoff(tries: int, at_least: float | None = None) -> float:
    """Seconds to wait before the next try after ``tries`` of them: doubling, jittered by half either way."""
    wait = min(BACKOFF_MOST_S, BACKOFF_S * 2 ** min(tries - 1, 16)) * random.uniform(0.5, 1.5)
    return max(wait, at_least * random.uniform(1.0, 1.1) if at_least else 0.0)
