"""How far a generation has come: numbers for whoever asks, and a line in the log every few seconds."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from palimpsest.generate.engines import EngineStats

log = logging.getLogger(__name__)

EVERY_S = 5.0
WINDOW_S = 60.0
"""Rates are those of the last minute: a server that was away shows, and so does that it is back."""


@dataclass(frozen=True)
class Progress:
    """Requests done (with or without a text) of all; ``seconds_left`` is None while nothing can be said."""

    done: int
    total: int
    failed: int = 0
    tokens_per_s: float = 0.0
    """Output tokens of the last minute."""
    in_flight: int = 0
    retries: int = 0
    seconds_left: float | None = None
    waiting: str = ""
    """Why nothing is asked at the moment: which server is away, and what keeps it."""

    def line(self) -> str:
        """``1,204/20,000 requests (6.0%), 3,911 tokens/s, 512 in flight, 3 retries, 1 failed, 12m 40s left``."""
        share = 100 * self.done / self.total if self.total else 100.0
        parts = [
            f"{self.done:,}/{self.total:,} requests ({share:.1f}%)",
            f"{self.tokens_per_s:,.0f} tokens/s",
            f"{self.in_flight:,} in flight",
            f"{self.retries:,} retries",
            f"{self.failed:,} failed",
            "time left unknown" if self.seconds_left is None else f"{duration(self.seconds_left)} left",
        ]
        return ", ".join(parts) + (f"; {self.waiting}" if self.waiting else "")


class Reporter:
    """Told of every batch of outcomes, reports at most every ``every_s`` seconds, and once at the end."""

    def __init__(
        self,
        total: int,
        report: Callable[[Progress], None] | None = None,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.report = report or (lambda progress: log.info("%s", progress.line()))
        self.every_s = every_s
        self.clock = clock
        self.done = self.failed = 0
        self._marks: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])  # time, done, output tokens
        self._reported = clock()

    def update(self, done: int, failed: int, stats: EngineStats) -> None:
        """``done`` more requests are through, ``failed`` of them without a text. Called with zeros it keeps time."""
        self.done += done
        self.failed += failed
        if self.clock() - self._reported >= self.every_s:
            self.report(self.progress(stats))

    def progress(self, stats: EngineStats) -> Progress:
        """Where things stand now; also restarts the time until the next report."""
        now = self._reported = self.clock()
        self._marks.append((now, self.done, stats.output_tokens))
        while len(self._marks) > 2 and now - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()
        since, done, tokens = self._marks[0]
        passed = max(now - since, 1e-9)
        rate = (self.done - done) / passed
        left = self.total - self.done
        return Progress(
            done=self.done,
            total=self.total,
            failed=self.failed,
            tokens_per_s=(stats.output_tokens - tokens) / passed,
            in_flight=stats.in_flight,
            retries=stats.retries,
            seconds_left=0.0 if left <= 0 else left / rate if rate else None,
            waiting=waiting(stats) if left > 0 else "",
        )


def waiting(stats: EngineStats) -> str:
    """Which servers are waited for, if none is up."""
    if any(endpoint.up for endpoint in stats.endpoints):
        return ""
    return "; ".join(f"waiting for {endpoint.url}: {endpoint.why}" for endpoint in stats.endpoints[:3])


def duration(seconds: float) -> str:
    """``42s``, ``3m 20s``, ``5h 2m``, ``2d 3h``."""
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit} {int(seconds % size // smaller)}{name}"
    return f"{seconds:.0f}s"
