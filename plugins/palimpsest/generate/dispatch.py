"""Keeps servers busy with what is planned: takes it in, sends it where it belongs, gives out what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.generate.answers import Answer, Sample, body, path, read
from palimpsest.generate.backend import Backend, Place
from palimpsest.generate.client import DETAIL, Fault
from palimpsest.generate.faults import Judge, last
from palimpsest.generate.meter import Meter
from palimpsest.generate.requests import Outcome, Request
from palimpsest.generate.routing import Flight, weight
from palimpsest.generate.watch import Watcher

LOOKAHEAD = 256
"""Samples taken from the plan before a server has room for them, at least; at most as many as are in flight."""
TAKE = 64
"""Flights taken from the plan at once."""
UNREAD = 4096
"""Outcomes nobody has taken yet: with more, nothing new is begun."""


@dataclass(frozen=True)
class Terms:
    """What is the same in all requests of a strategy."""

    engine: str
    model: str
    """Identity, as outcomes name it."""
    served: str
    """As the servers call it."""
    sampling: Mapping[str, Any]


class Dispatcher:
    """Runs in one event loop; `run` returns when every request of ``take`` has its outcome."""

    def __init__(
        self,
        terms: Terms,
        backends: Sequence[Backend],
        *,
        meter: Meter,
        take: Callable[[int], Awaitable[list[Flight]]],
        deliver: Callable[[list[Outcome]], None],
        unread: Callable[[], int] = lambda: 0,
        resolve: Callable[[], Awaitable[list[Place]]] | None = None,
    ) -> None:
        self.terms = terms
        self.backends = list(backends)
        self.meter = meter
        self.take, self.deliver, self.unread, self.resolve = take, deliver, unread, resolve
        self.wanted = asyncio.Event()
        self.finished = asyncio.Event()
        self.open = 0  # flights that have no outcome yet
        self.backlog = 0  # samples in open lanes
        self.exhausted = False
        self.retries = 0
        self.output_tokens = 0
        self.judge = Judge(again=self._again, end=self._end, down=self._down, pump=self._pump, served=terms.served)
        self.running = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Raises what ended it early; then, and when it is cancelled, everything in flight is aborted."""
        self.running = True
        try:
            watcher = Watcher(self.backends, self._pump, self._down, self._scatter, self.resolve)
            for backend in self.backends:
                self._start(watcher.watch(backend))
            self._start(self._take_in())
            finished = asyncio.ensure_future(self.finished.wait())
            await asyncio.wait((finished, self._failure), return_when=asyncio.FIRST_COMPLETED)
            finished.cancel()
            if self._failure.done():
                self._failure.result()
        finally:
            self.running = False
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(backend.close() for backend in self.backends))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failure.done():
            self._failure.set_exception(error)

    # ---- work: in, to a server, out

    async def _take_in(self) -> None:
        for backend in self.backends:  # so that a document goes to its own server from the beginning, if that is up
            await backend.tried.wait()
        while not self.exhausted:
            while not self._hungry:
                self.wanted.clear()
                await self.wanted.wait()
            taken = await self.take(TAKE)
            self.exhausted = not taken
            self.open += len(taken)
            for flight in taken:
                self._route(flight)
        for backend in self.backends:
            self._pump(backend)
        self._close(0)

    @property
    def _hungry(self) -> bool:
        windows = sum(backend.window.size for backend in self.backends)
        return self.backlog < max(LOOKAHEAD, windows) and self.unread() < UNREAD

    def _route(self, flight: Flight) -> None:
        """To the server its place hashes to among those that are up; if it is kept apart, to where it was struck."""
        if not self.running:
            return
        backend = flight.home if flight.apart and flight.home in self.backends else self._nearest(flight)
        again = flight.troubled_at is not None
        backend.put(flight, first=again and not flight.apart)
        self.backlog += 0 if flight.apart else flight.n
        self._pump(backend)

    def _nearest(self, flight: Flight) -> Backend:
        candidates = [backend for backend in self.backends if backend.up] or self.backends
        if len(candidates) == 1:
            return candidates[0]
        return max(candidates, key=lambda backend: weight(flight.place, backend.place.replica))

    def _steal(self) -> Flight | None:
        """The newest flight of the longest queue, for a server with room once the plan's next are taken or none."""
        if not self.exhausted and self._hungry:
            return None
        longest = max(self.backends, key=lambda backend: len(backend.queue))
        return longest.queue.pop() if longest.queue else None

    def _pump(self, backend: Backend) -> None:
        while self.running and (flight := backend.next(self._steal)) is not None:
            self.backlog -= 0 if flight.apart else flight.n
            backend.flying.add(flight)
            backend.window.take(flight.n)
            self._start(self._fly(backend, flight))
        if self._hungry:
            self.wanted.set()

    async def _fly(self, backend: Backend, flight: Flight) -> None:
        sent = time.monotonic()
        first = flight.requests[0]
        try:
            if flight.outcome is not None:
                await self.judge.give_up(backend, flight, *flight.outcome)
                return
            self.meter.started(flight, flight.keys)
            content = body(self.terms.served, first.prompt, self.terms.sampling, seed=first.seed, n=flight.n)
            found = await self._post(backend, path(first.prompt), content)
            if isinstance(found, Fault):
                seconds = self.meter.ended(flight, "failed" if last(flight, found) else "repaid")
                await self.judge.fault(backend, flight, found, sent, seconds)
            else:
                await self._answered(backend, flight, read(found, self.terms.served, flight.n))
        finally:
            self.meter.drop(flight)
            backend.flying.discard(flight)
            backend.window.give(flight.n)
            self._pump(backend)

    @staticmethod
    async def _post(backend: Backend, place: str, content: bytes) -> Any:
        """The answer, or the fault: it is dealt with outside of its own traceback."""
        try:
            return await backend.client.post(place, content)
        except Fault as fault:
            return fault

    async def _answered(self, backend: Backend, flight: Flight, answer: Answer) -> None:
        good = [i for i, sample in enumerate(answer.samples) if isinstance(sample, Sample)]
        bad = [i for i, sample in enumerate(answer.samples) if isinstance(sample, str)]
        if good:
            backend.last_ok, backend.refusing_since = time.monotonic(), None
            backend.window.answered(len(good))
            seconds = self.meter.ended(flight, "useful", [flight.requests[i].key for i in good])
            made = [(flight.requests[i], answer.samples[i]) for i in good]
            self.output_tokens += sum(sample.output_tokens or 0 for _, sample in made)
            self.deliver(
                [
                    self._outcome(
                        request,
                        seconds,
                        text=sample.text,
                        finish_reason=sample.finish_reason,
                        input_tokens=answer.input_tokens,
                        output_tokens=sample.output_tokens,
                    )
                    for request, sample in made
                ]
            )
        if not bad:
            self._close(1)
            return
        fault = Fault("lost" if answer.aborted else "garbled", str(answer.samples[bad[0]]))
        seconds = self.meter.ended(
            flight, "failed" if last(flight, fault) else "repaid", [flight.requests[i].key for i in bad]
        )
        parts = list(flight.parts(bad))
        self.open += len(parts) - 1
        for part in parts:
            await self.judge.fault(backend, part, fault, time.monotonic(), seconds)

    # ---- again, or through

    def _again(self, flight: Flight, wait_s: float | None = None) -> None:
        """Never at once: until `_fly` is through with it, a flight keeps others from a server that is in trouble."""
        self.retries += 1
        asyncio.get_running_loop().call_later(wait_s or 0.0, self._route, flight)

    def _end(self, flight: Flight, cause: str, detail: str, seconds: float) -> None:
        detail = detail[:DETAIL]
        self.deliver([self._outcome(r, seconds, text=None, cause=cause, detail=detail) for r in flight.requests])
        self._close(1)

    def _close(self, flights: int) -> None:
        self.open -= flights
        if self.exhausted and not self.open:
            self.finished.set()

    def _outcome(self, request: Request, seconds: float, **what: Any) -> Outcome:
        made_by = {"engine": self.terms.engine, "model": self.terms.model}
        return Outcome(request.key, seed=request.seed, engine_seconds=seconds, **made_by, **what)

    # ---- servers that come and go

    def _scatter(self, flights: list[Flight]) -> None:
        for flight in flights:
            self._route(flight)

    def _down(self, backend: Backend, why: str, *, stuck: bool = False) -> None:
        backend.fall(why, stuck=stuck)
        left = list(backend.queue)
        backend.queue.clear()
        self.backlog -= sum(flight.n for flight in left)
        self._scatter(left)
