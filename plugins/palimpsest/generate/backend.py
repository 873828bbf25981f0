"""One server as the dispatcher sees it: what waits for it, what is in flight there, whether it is up."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from palimpsest.config import ConfigError
from palimpsest.generate.answers import probe
from palimpsest.generate.client import Client, Fault
from palimpsest.generate.concurrency import Window
from palimpsest.generate.routing import Flight

log = logging.getLogger(__name__)

FEW = 8
"""Requests with two strikes that are in flight together, apart from others (more of them where there are many)."""
ALIVE_WITHIN_S = 120.0
"""A server that does not generate one token in this time, and answers nothing else, hangs."""


@dataclass(frozen=True)
class Place:
    """Where a server listens. ``replica`` stays when it comes back at another port."""

    url: str
    replica: str


@dataclass(frozen=True)
class Limits:
    """Seconds, and the study's context in tokens."""

    request_s: float
    ready_s: float
    context: int | None = None


class Backend:
    """Three lanes: 'open'; 'few' for requests that were in flight at two crashes; 'alone' for those at more.

    Requests of different lanes are never in flight together, so a crash in 'few' strikes few, and one in 'alone' one.
    """

    def __init__(
        self, place: Place, model: str, limits: Limits, api_key: str | None, *, key_hint: str, chat: bool
    ) -> None:
        self.place = place
        self.model = model
        self.limits = limits
        self.chat = chat
        self._api_key = api_key
        self.key_hint = key_hint
        """What to do where the server turns the key down."""
        self.client = Client(place.url, api_key=api_key, timeout_s=limits.request_s)
        self.window = Window()
        self.queue: deque[Flight] = deque()
        self.few: deque[Flight] = deque()
        self.alone: deque[Flight] = deque()
        self.flying: set[Flight] = set()
        self.lane = "open"
        self.few_most = FEW
        self.up = False
        self.was_up = False
        self.stuck = False
        self.why = "it was not reached yet"
        self.down_since = time.monotonic()
        self.last_ok = float("-inf")
        self.refusing_since: float | None = None
        self.fell = asyncio.Event()
        self.tried = asyncio.Event()
        self._probes: dict[str, asyncio.Task[bool]] = {}

    def put(self, flight: Flight, *, first: bool = False) -> None:
        lane = self.queue if not flight.apart else self.few if flight.strikes == 2 else self.alone
        if first:
            lane.appendleft(flight)
        else:
            lane.append(flight)

    def next(self, steal: Callable[[], Flight | None]) -> Flight | None:
        """What may be sent now, taken off its lane; ``steal`` finds something where the open lane is empty."""
        wanted = "few" if self.few else "alone" if self.alone else "open"
        if not self.up or (self.flying and self.lane != wanted):
            return None
        if wanted == "open":
            found = self.queue[0] if self.queue else None
            if found is None and self.window.room(1):
                found = steal()
                if found is not None:
                    self.queue.append(found)
            if found is None or not self.window.room(found.n):
                return None
            self.lane = wanted
            return self.queue.popleft()
        lane, most = (self.few, self.few_most) if wanted == "few" else (self.alone, 1)
        if len(self.flying) >= most or not self.window.room(lane[0].n):
            return None
        self.lane = wanted
        return lane.popleft()

    def fall(self, why: str, *, stuck: bool = False) -> None:
        """It is down from now on, for the reason ``why``; ``stuck``: it has to generate before it counts as back."""
        self.stuck = self.stuck or stuck
        if not self.up:
            return
        self.up, self.why, self.down_since = False, why, time.monotonic()
        log.warning("vLLM server %s is down: %s; waiting for it to come back", self.place.url, why)
        self.fell.set()

    def rise(self) -> None:
        if self.was_up:
            log.warning("vLLM server %s is back after %.0f s", self.place.url, time.monotonic() - self.down_since)
            self.window.restart()
        self.up = self.was_up = True
        self.stuck = False
        self.refusing_since = None
        self.few_most = max(FEW, math.isqrt(len(self.few)))
        self.fell.clear()

    async def move(self, place: Place) -> None:
        """The server is at another address now."""
        if place.url != self.place.url:
            self.place = place
            await self.renew()

    async def renew(self) -> None:
        """Break all connections, also those to a server that hangs; what was in flight on them is lost."""
        old = self.client
        self.client = Client(self.place.url, api_key=self._api_key, timeout_s=self.limits.request_s)
        await old.close()

    async def close(self) -> None:
        for task in self._probes.values():
            task.cancel()
        await self.client.close()

    async def well(self) -> bool:
        """Whether the server itself says that it is; asked once for all who want to know at the same time."""
        return self.up and await self._once("health", self.client.healthy)

    async def alive(self) -> bool:
        """Whether it generates: one token, asked for like any other request."""
        return await self._once("token", self._token)

    async def ready(self) -> bool:
        """Whether it can be sent requests; raises `ConfigError` where waiting would not help."""
        if not await self.client.healthy():
            self.why = "/health does not answer 200"
            return False
        try:
            served = {model.name: model for model in await self.client.models()}
        except Fault as fault:
            if fault.kind == "denied":
                raise denied(self, fault) from None
            self.why = f"/v1/models: {fault.detail}"
            return False
        model = served.get(self.model)
        if model is None:
            self.why = f"it serves {', '.join(sorted(served)) or 'no model'}, not '{self.model}'"
            if not self.was_up:
                raise ConfigError(
                    f"{self.place.url}: {self.why}; correct 'model' or 'endpoints' in the study's 'servers', or start "
                    f"that server with --served-model-name {self.model}"
                )
            return False
        if model.context is not None and self.limits.context is not None and model.context < self.limits.context:
            raise ConfigError(
                f"{self.place.url}: serves '{self.model}' with a context of {model.context} tokens, the study plans "
                f"with {self.limits.context}; write 'context: {model.context}' for this server"
            )
        return not self.stuck or await self.alive()

    async def _token(self) -> bool:
        path = "/v1/chat/completions" if self.chat else "/v1/completions"
        limit = min(self.limits.request_s, ALIVE_WITHIN_S)
        try:
            await self.client.post(path, probe(self.model, chat=self.chat), timeout_s=limit)
        except Fault as fault:
            self.why = f"a request for one token: {fault.detail}"
            return False
        self.last_ok = time.monotonic()
        return True

    async def _once(self, name: str, ask: Callable[[], Awaitable[bool]]) -> bool:
        if name not in self._probes:
            self._probes[name] = asyncio.ensure_future(ask())
            self._probes[name].add_done_callback(lambda _: self._probes.pop(name, None))
        return await asyncio.shield(self._probes[name])


def denied(backend: Backend, fault: Fault) -> ConfigError:
    return ConfigError(f"{backend.place.url}: {fault.detail}; {backend.key_hint}")
