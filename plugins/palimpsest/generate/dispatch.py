"""Keeps servers busy with requests, and decides what a failure means: try again, wait for the server, or give up.

What a request that never works can cost, and what it ends as:

=============  ==============================================================================================
bad_request    one answer (400, 404, 413, 422)
bad_answer     `TRIES` answers that are not the protocol, or samples without a text
server_error   `TRIES` errors with seconds of backoff between; `REFUSALS` times 503 while others are answered
timeout        `OVERDUE` times the server's ``request_timeout_s``
server_crash   `STRIKES` crashes: one among all that was in flight, one among few, two alone on the server
=============  ==============================================================================================

The others go on, but for a server that crashed: what was in flight there is sent again in small numbers, apart from
the rest. A request is given up only after its server has answered something else; where it answers nothing, the
server is at fault: it counts as down, and after ``ready_within_s`` the run ends with a `ConnectionError` that loses
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.generate.answers import Answer, Sample, body, path, read
from palimpsest.generate.backend import Backend, Place, denied
from palimpsest.generate.client import DETAIL, Fault
from palimpsest.generate.concurrency import backoff
from palimpsest.generate.meter import Meter
from palimpsest.generate.requests import Outcome, Request
from palimpsest.generate.routing import Flight, weight

TRIES, OVERDUE, REFUSALS, STRIKES = 4, 2, 16, 4
LOOKAHEAD = 256
"""Samples taken from the plan before a server has room for them, at least; at most as many as are in flight."""
TAKE = 64
"""Flights taken from the plan at once."""
UNREAD = 4096
"""Outcomes nobody has taken yet: with more, nothing new is begun."""
SETTLE_S = 0.25
"""From a 5xx to the question whether the server is well: the API server outlives its engine for a moment."""
POLL_S, RAMP_S = 2.0, 0.5
SILENT_S = 60.0
"""A server that answers neither requests nor questions for so long is down."""


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
        self.running = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Raises what ended it early; then, and when it is cancelled, everything in flight is aborted."""
        self.running = True
        try:
            for backend in self.backends:
                self._start(self._watch(backend))
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
        """To the server its place hashes to among those that are up; with strikes, to where it got them."""
        if not self.running:
            return
        backend = flight.home if flight.strikes and flight.home in self.backends else self._nearest(flight)
        again = flight.troubled_at is not None
        backend.put(flight, first=again and not flight.strikes)
        self.backlog += 0 if flight.strikes else flight.n
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
            self.backlog -= 0 if flight.strikes else flight.n
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
                await self._give_up(backend, flight, *flight.outcome)
                return
            self.meter.started(flight, flight.keys)
            content = body(self.terms.served, first.prompt, self.terms.sampling, seed=first.seed, n=flight.n)
            try:
                answer = read(await backend.client.post(path(first.prompt), content), self.terms.served, flight.n)
            except Fault as fault:
                seconds = self.meter.ended(flight, "failed" if last(flight, fault) else "repaid")
                await self._fault(backend, flight, fault, sent, seconds)
            else:
                await self._answered(backend, flight, answer)
        finally:
            self.meter.drop(flight)
            backend.flying.discard(flight)
            backend.window.give(flight.n)
            self._pump(backend)

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
            await self._fault(backend, part, fault, time.monotonic(), seconds)

    # ---- what a failure means

    async def _fault(self, backend: Backend, flight: Flight, fault: Fault, sent: float, seconds: float) -> None:
        flight.troubled_at = flight.troubled_at or time.monotonic()
        detail = fault.detail
        if fault.kind == "denied":
            raise denied(backend.place.url, fault)
        if fault.kind == "bad_request":
            if fault.status == 404 and not await self._still_served(backend):
                self._down(backend, backend.why)
                self._again(flight)
            else:
                self._end(flight, "bad_request", detail, seconds)
        elif fault.kind == "busy":
            await self._refused(backend, flight, fault, sent)
        elif fault.kind == "timeout":
            backend.window.refused(sent)
            flight.overdue += 1
            if flight.overdue < OVERDUE:
                self._again(flight, backoff(1))
            else:
                await self._give_up(backend, flight, "timeout", detail, since=sent, seconds=seconds)
        elif fault.kind == "garbled":
            await self._tried(backend, flight, "bad_answer", detail, seconds)
        elif fault.kind == "unreachable":  # it was never sent: no strike
            well = await backend.well()
            if not well:
                self._down(backend, detail)
            flight.losses += well
            self._again(flight, backoff(flight.losses) if well else None)
        else:
            await asyncio.sleep(SETTLE_S if fault.kind == "error" else 0)
            if not await backend.well():
                self._down(backend, detail)
                await self._struck(backend, flight, "server_crash", detail, seconds)
            elif fault.kind == "error":
                await self._tried(backend, flight, "server_error", detail, seconds)
            else:  # once may be the network; again, it may be a crash that was over before anybody looked
                flight.losses += 1
                if flight.losses == 1:
                    self._again(flight, backoff(1))
                else:
                    await self._struck(backend, flight, "server_error", detail, seconds)

    async def _refused(self, backend: Backend, flight: Flight, fault: Fault, sent: float) -> None:
        """429, 503 and the like: the server's state, not the request's; unless it is always this one."""
        now = time.monotonic()
        wait = min(fault.retry_after, backend.limits.ready_s) if fault.retry_after else None
        backend.window.refused(sent, wait_s=wait)
        if wait:
            asyncio.get_running_loop().call_later(wait, self._pump, backend)
        backend.refusing_since = backend.refusing_since or now
        flight.refusals += 1
        if fault.status == 503 and not await backend.well():
            self._down(backend, fault.detail)
            self._again(flight)
        elif fault.status == 503 and flight.refusals >= REFUSALS and backend.last_ok > flight.troubled_at:
            self._end(flight, "server_error", fault.detail, 0.0)
        elif now - backend.refusing_since > backend.limits.ready_s:
            raise ConnectionError(
                f"{backend.place.url} has refused every request for {now - backend.refusing_since:.0f} s: "
                f"{fault.detail}; what was generated is kept, run the task again when the server has room"
            )
        else:
            self._again(flight, backoff(flight.refusals, wait))

    async def _tried(self, backend: Backend, flight: Flight, cause: str, detail: str, seconds: float) -> None:
        flight.tries += 1
        if flight.tries < TRIES:
            self._again(flight, backoff(flight.tries))
        else:
            await self._give_up(backend, flight, cause, detail, seconds=seconds)

    async def _struck(self, backend: Backend, flight: Flight, cause: str, detail: str, seconds: float) -> None:
        flight.strikes += 1
        flight.home = backend
        if flight.strikes >= STRIKES:
            flight.outcome = (cause, detail)  # given up where it struck, once that server shows that it answers others
        self._again(flight, backoff(flight.strikes) if backend.up else None)

    async def _give_up(
        self,
        backend: Backend,
        flight: Flight,
        cause: str,
        detail: str,
        *,
        since: float | None = None,
        seconds: float = 0.0,
    ) -> None:
        """The end of a flight, if its server has answered anything since; else it is the server that fails."""
        since = flight.troubled_at if since is None else since
        if backend.last_ok > since or await backend.alive() or backend.last_ok > since:
            self._end(flight, cause, detail, seconds)
            return
        self._down(backend, f"it has answered nothing since a request failed ({detail})", stuck=True)
        flight.tries = flight.overdue = flight.losses = 0
        flight.strikes = min(flight.strikes, STRIKES - 1)
        flight.troubled_at = flight.outcome = None
        self._again(flight)

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

    async def _watch(self, backend: Backend) -> None:
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
                    self._down(backend, f"it is silent ({fault.detail})")
                    continue
            else:
                silent_since = None
                if seen is not None:
                    backend.window.observe(*seen)
                    self._pump(backend)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(backend.fell.wait(), RAMP_S if backend.window.ramping else POLL_S)

    async def _revive(self, backend: Backend) -> None:
        pause = 0.2
        while not await backend.ready():
            self._check_time(backend)
            await asyncio.sleep(pause)
            pause = min(POLL_S, pause * 1.5)
            if self.resolve is not None:
                for place in await self.resolve():
                    if place.replica == backend.place.replica:
                        await backend.move(place)
        backend.rise()
        self._pump(backend)

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
                self._route(flight)

    def _down(self, backend: Backend, why: str, *, stuck: bool = False) -> None:
        backend.fall(why, stuck=stuck)
        left = list(backend.queue)
        backend.queue.clear()
        self.backlog -= sum(flight.n for flight in left)
        for flight in left:
            self._route(flight)

    async def _still_served(self, backend: Backend) -> bool:
        with contextlib.suppress(Fault):
            names = [model.name for model in await backend.client.models()]
            backend.why = f"it serves {', '.join(names) or 'no model'}, not '{self.terms.served}'"
            return self.terms.served in names
        return False


def last(flight: Flight, fault: Fault) -> bool:
    """Whether this failure is the flight's end, as far as can be told before the server is asked how it is."""
    limits = {"garbled": flight.tries + 1 >= TRIES, "error": flight.tries + 1 >= TRIES}
    limits |= {"timeout": flight.overdue + 1 >= OVERDUE, "lost": flight.strikes + 1 >= STRIKES, "bad_request": True}
    return limits.get(fault.kind, False)
