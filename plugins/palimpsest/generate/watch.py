"""Looks after servers while they are asked: their queue when they are up, their return when they are down."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from palimpsest.generate.backend import Backend, Place
from palimpsest.generate.client import Fault
from palimpsest.generate.routing import Flight

POLL_S, RAMP_S = 2.0, 0.25
"""Between two looks at a server's queue; the second while its window may have to grow."""
SILENT_S = 60.0
"""A server that answers neither requests nor questions for so long is down."""


@dataclass(frozen=True)
class Watcher:
    backends: Sequence[Backend]
    pump: Callable[[Backend], None]
    down: Callable[[Backend, str], None]
    scatter: Callable[[list[Flight]], None]
    """Sends flights to other servers."""
    resolve: Callable[[], Awaitable[list[Place]]] | None
    """Where servers listen now, if this platform starts them: one that died is started again."""

    async def watch(self, backend: Backend) -> None:
        silent_since: float | None = None
        while True:
            if not backend.up:
                await backend.renew()
                await self._revive(backend)
                silent_since = None
            try:
                seen = await backend.client.queue()
            except Fault as fault:  # a host that vanished resets no connection: only its silence shows
                now = time.monotonic()
                silent_since = silent_since or now
                if now - max(silent_since, backend.last_ok) > SILENT_S and not await backend.client.healthy():
                    self.down(backend, f"it is silent ({fault.detail})")
                    continue
            else:
                silent_since = None
                if seen is not None:
                    backend.window.observe(*seen)
                    self.pump(backend)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(backend.fell.wait(), RAMP_S if backend.window.ramping else POLL_S)

    async def _revive(self, backend: Backend) -> None:
        pause = 0.2
        while not await backend.ready():
            backend.tried.set()
            self._check_time(backend)
            await asyncio.sleep(pause)
            pause = min(POLL_S, pause * 1.5)
            if self.resolve is not None:
                for place in await self.resolve():
                    if place.replica == backend.place.replica:
                        await backend.move(place)
        backend.rise()
        backend.tried.set()
        self.pump(backend)

    def _check_time(self, backend: Backend) -> None:
        now, limit = time.monotonic(), backend.limits.ready_s
        if all(not other.up and now - other.down_since > limit for other in self.backends):
            raise ConnectionError(
                f"no vLLM server for {limit:.0f} s: "
                + "; ".join(f"{other.place.url}: {other.why}" for other in self.backends)
                + "; what was generated is kept, run the task again when a server is up"
            )
        if now - backend.down_since > limit:  # others carry on with what it has on its conscience, apart from the rest
            left = [*backend.few, *backend.alone]
            backend.few.clear()
            backend.alone.clear()
            for flight in left:
                flight.home = None
            self.scatter(left)
