"""The engine 'vllm': asks a study's model servers for what is planned, and keeps them busy until it is done."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from palimpsest import serve
from palimpsest.config import Server, Strategy, Study
from palimpsest.generate.backend import Backend, Limits, Place
from palimpsest.generate.dispatch import UNREAD, Dispatcher, Terms
from palimpsest.generate.engines import EndpointStats, EngineStats
from palimpsest.generate.meter import Meter
from palimpsest.generate.models import ModelSource
from palimpsest.generate.prompts import load_prompt
from palimpsest.generate.requests import Outcome, Request
from palimpsest.generate.routing import Flight, flights
from palimpsest.lake import Lake

TOUCH_S = 30.0
"""Servers that this platform started stop when nobody touches them for PALIMPSEST_SERVER_IDLE_S (900 s)."""
FILES = 16_384
"""Open files, if the system allows as many: each request in flight is a connection."""


class Vllm:
    """Speaks to the servers of one strategy. One `generate` at a time."""

    name = "vllm"

    def __init__(
        self, study: Study, strategy_name: str, lake: Lake, source: ModelSource, began: float | None = None
    ) -> None:
        strategy = study.strategies[strategy_name]
        self.study, self.lake, self.source, self.began = study, lake, source, began
        self.server_name = str(strategy.engine.server)
        self.server: Server = study.servers[self.server_name]
        self.model = source.identity
        self.meter = Meter()
        self._sampling = strategy.sampling.model_dump()
        self._dispatcher: Dispatcher | None = None
        self._before = (0, 0)  # retries and output tokens of calls that have ended

    def prompt(self, strategy: Strategy) -> str:
        return load_prompt(strategy).label

    def stats(self) -> EngineStats:
        """What is in flight and was done since the engine was opened; safe to ask from any thread."""
        dispatcher, (retries, tokens) = self._dispatcher, self._before
        if dispatcher is None:
            return EngineStats(retries=retries, output_tokens=tokens)
        endpoints = tuple(
            EndpointStats(b.place.url, b.up, b.window.in_flight, int(b.window.size), "" if b.up else b.why)
            for b in dispatcher.backends
        )
        return EngineStats(
            in_flight=sum(e.in_flight for e in endpoints),
            window=sum(e.window for e in endpoints if e.up),
            retries=retries + dispatcher.retries,
            output_tokens=tokens + dispatcher.output_tokens,
            endpoints=endpoints,
        )

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Outcomes as they come, in any order; ``requests`` are taken as servers have room, from another thread.

        They must not wait for outcomes. Closing the iterator aborts what is in flight, also on the servers. Raises
        ConnectionError if no server is there, or comes back, within ``ready_within_s``; ConfigError if the study and
        the server do not fit.
        """
        source = flights(requests)
        first = next(source, None)
        if first is None:  # no server is started for nothing
            return
        _allow_files()
        self.meter.begin()
        run = _Run(self, self.places(wait=True), itertools.chain([first], source), first)
        try:
            yield from run
        finally:
            run.close()

    def places(self, *, wait: bool) -> list[Place]:
        """Where the servers are; those that are this platform's to start are started if they are not there."""
        wait = wait and not self.server.endpoints
        found = serve.ensure(self.study, self.server_name, self.lake, wait=wait, began=self.began)
        return [Place(endpoint.url, str(endpoint.replica)) for endpoint in found]


class _Run:
    """One call of `Vllm.generate`: an event loop in a thread of its own, and the outcomes that come out of it."""

    def __init__(self, engine: Vllm, places: list[Place], source: Iterator[Flight], first: Flight) -> None:
        self.engine = engine
        self.places = places
        self.source = source
        self.chat = bool(first.requests[0].prompt and first.requests[0].prompt.messages)
        self.outcomes: queue.SimpleQueue[list[Outcome] | BaseException | None] = queue.SimpleQueue()
        self.given = self.taken = 0
        self.pool = ThreadPoolExecutor(4, thread_name_prefix="plan")
        self.loop = asyncio.new_event_loop()
        self.main = self.loop.create_task(self._main())
        self.thread = threading.Thread(target=self._work, name="vllm", daemon=True)
        self.thread.start()

    def __iter__(self) -> Iterator[Outcome]:
        while (batch := self.outcomes.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield from batch
            was_full = self.given - self.taken >= UNREAD
            self.taken += len(batch)
            if was_full and (dispatcher := self.engine._dispatcher) is not None:
                self._soon(dispatcher.wanted.set)

    def close(self) -> None:
        self._soon(self.main.cancel)
        if threading.current_thread() is not self.thread:  # an abandoned iterator may be collected in any thread
            self.thread.join()

    def _soon(self, act: Callable[[], object]) -> None:
        try:
            self.loop.call_soon_threadsafe(act)
        except RuntimeError:  # the loop has ended by itself
            return

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(self.main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by whoever takes the outcomes
            end = error
        finally:
            self.pool.shutdown()
            self.loop.close()
            self.outcomes.put(end)

    async def _main(self) -> None:
        engine, server = self.engine, self.engine.server
        key, hint = serve.api_key(server), serve.key_hint(server)
        limits = Limits(server.request_timeout_s, server.ready_within_s, server.context)
        served = engine.source.served_name
        backends = [Backend(place, served, limits, key, key_hint=hint, chat=self.chat) for place in self.places]
        engine._dispatcher = dispatcher = Dispatcher(
            Terms(engine.name, engine.model, served, engine._sampling),
            backends,
            meter=engine.meter,
            take=self._take,
            deliver=self._deliver,
            unread=lambda: self.given - self.taken,
            resolve=None if server.endpoints else self._resolve,
        )
        touching = asyncio.create_task(self._touch())
        try:
            await dispatcher.run()
        finally:
            touching.cancel()
            retries, tokens = engine._before
            engine._before = (retries + dispatcher.retries, tokens + dispatcher.output_tokens)
            engine._dispatcher = None

    async def _take(self, most: int) -> list[Flight]:
        return await self._aside(lambda: list(itertools.islice(self.source, most)))

    def _deliver(self, outcomes: list[Outcome]) -> None:
        self.given += len(outcomes)
        self.outcomes.put(outcomes)

    async def _resolve(self) -> list[Place]:
        return await self._aside(lambda: self.engine.places(wait=False))

    async def _touch(self) -> None:
        while not self.engine.server.endpoints:
            with contextlib.suppress(OSError):  # the next touch is soon enough
                await self._aside(lambda: serve.touch(self.engine.study, self.engine.server_name, self.engine.lake))
            await asyncio.sleep(TOUCH_S)

    async def _aside(self, work: Callable[[], Any]) -> Any:
        return await self.loop.run_in_executor(self.pool, work)


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
