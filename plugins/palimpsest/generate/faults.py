"""What a failure means: the same request again, waiting for the server, or giving the request up.

What a request that never works can cost, and what it ends as:

=============  ==============================================================================================
bad_request    one answer (400, 404, 413, 422)
bad_answer     `TRIES` answers that are not the protocol, or samples without a text
server_error   `TRIES` errors with seconds of backoff between; `REFUSALS` times 503 while others are answered, or 429
               for longer than ``ready_within_s``
timeout        `OVERDUE` times the server's ``request_timeout_s``
server_crash   `STRIKES` crashes: two among all that was in flight, one among few, two alone on the server
=============  ==============================================================================================

The others go on. After one crash, which may have had any cause (a kill, the machine), everything is sent again at full
speed; what was in flight at two is sent in small numbers, apart from the rest of that server's. Alone it takes two
crashes, because the one may be somebody's kill.

A request is given up only after its server has answered something else; where it answers nothing, the server is at
fault: it counts as down, and after ``ready_within_s`` the run ends with a `ConnectionError` that loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from palimpsest.generate.backend import Backend, denied
from palimpsest.generate.client import Fault
from palimpsest.generate.concurrency import backoff
from palimpsest.generate.routing import Flight

TRIES, OVERDUE, REFUSALS, STRIKES = 4, 2, 16, 5
SETTLE_S = 0.25
"""From a 5xx to the question whether the server is well: the API server outlives its engine for a moment."""


@dataclass(frozen=True)
class Judge:
    """Decides; what is to be done then is the dispatcher's."""

    again: Callable[..., None]
    """(flight, wait_s=None): to its lane once more."""
    end: Callable[[Flight, str, str, float], None]
    """(flight, cause, detail, seconds of each sample)."""
    down: Callable[..., None]
    """(backend, why, stuck=False)."""
    pump: Callable[[Backend], None]
    served: str

    async def fault(self, backend: Backend, flight: Flight, fault: Fault, sent: float, seconds: float) -> None:
        flight.troubled_at = flight.troubled_at or time.monotonic()
        detail = fault.detail
        if fault.kind == "denied":
            raise denied(backend, fault)
        if fault.kind == "bad_request":
            if fault.status == 404 and not await self._still_served(backend):
                self.down(backend, backend.why)
                self.again(flight)
            else:
                self.end(flight, "bad_request", detail, seconds)
        elif fault.kind == "busy":
            await self._refused(backend, flight, fault, sent)
        elif fault.kind == "timeout":
            backend.window.refused(sent)
            flight.overdue += 1
            if flight.overdue < OVERDUE:
                self.again(flight, backoff(1))
            else:
                await self.give_up(backend, flight, "timeout", detail, since=sent, seconds=seconds)
        elif fault.kind == "garbled":
            await self._tried(backend, flight, "bad_answer", detail, seconds)
        elif fault.kind == "unreachable":  # it was never sent: no strike
            well = await backend.well()
            if not well:
                self.down(backend, detail)
            elif time.monotonic() - flight.troubled_at > backend.limits.ready_s:
                raise ConnectionError(
                    f"{backend.place.url} answers /health, but no request reaches it: {detail}; what was generated is "
                    "kept, run the task again"
                )
            flight.losses += well
            self.again(flight, backoff(flight.losses) if well else None)
        else:
            await asyncio.sleep(SETTLE_S if fault.kind == "error" else 0)
            if not await backend.well():
                self.down(backend, detail)
                await self._struck(backend, flight, "server_crash", detail, seconds)
            elif fault.kind == "error":
                await self._tried(backend, flight, "server_error", detail, seconds)
            else:  # once may be the network; again, it may be a crash that was over before anybody looked
                flight.losses += 1
                if flight.losses == 1:
                    self.again(flight, backoff(1))
                else:
                    await self._struck(backend, flight, "server_error", detail, seconds)

    async def _refused(self, backend: Backend, flight: Flight, fault: Fault, sent: float) -> None:
        """429, 503 and the like: the server's state, not the request's; unless it is always this one."""
        now = time.monotonic()
        wait = min(fault.retry_after, backend.limits.ready_s) if fault.retry_after else None
        backend.window.refused(sent, wait_s=wait)
        if wait:
            asyncio.get_running_loop().call_later(wait, self.pump, backend)
        since = backend.refusing_since = backend.refusing_since or now
        patience = backend.limits.ready_s if fault.status == 429 else 0.0  # a busy server turns some away for long
        others = backend.last_ok > flight.troubled_at
        flight.refusals += 1
        if fault.status == 503 and not await backend.well():
            self.down(backend, fault.detail)
            self.again(flight)
        elif others and flight.refusals >= REFUSALS and now - flight.troubled_at > patience:
            self.end(flight, "server_error", fault.detail, 0.0)
        elif backend.refusing_since is not None and now - since > backend.limits.ready_s:
            raise ConnectionError(
                f"{backend.place.url} has refused every request for {now - since:.0f} s: "
                f"{fault.detail}; what was generated is kept, run the task again when the server has room"
            )
        else:
            self.again(flight, backoff(flight.refusals, wait))

    async def _tried(self, backend: Backend, flight: Flight, cause: str, detail: str, seconds: float) -> None:
        flight.tries += 1
        if flight.tries < TRIES:
            self.again(flight, backoff(flight.tries))
        else:
            await self.give_up(backend, flight, cause, detail, seconds=seconds)

    async def _struck(self, backend: Backend, flight: Flight, cause: str, detail: str, seconds: float) -> None:
        flight.strikes += 1
        flight.home = backend
        if flight.strikes >= STRIKES:
            flight.outcome = (cause, detail)  # given up where it struck, once that server shows that it answers others
        self.again(flight, backoff(flight.strikes) if backend.up else None)

    async def give_up(
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
            self.end(flight, cause, detail, seconds)
            return
        self.down(backend, f"it has answered nothing since a request failed ({detail})", stuck=True)
        flight.tries = flight.overdue = flight.losses = 0
        flight.strikes = min(flight.strikes, STRIKES - 1)
        flight.troubled_at = flight.outcome = None
        self.again(flight)

    async def _still_served(self, backend: Backend) -> bool:
        with contextlib.suppress(Fault):
            names = [model.name for model in await backend.client.models()]
            backend.why = f"it serves {', '.join(names) or 'no model'}, not '{self.served}'"
            return self.served in names
        return False


def last(flight: Flight, fault: Fault) -> bool:
    """Whether this failure is the flight's end, as far as can be told before the server is asked how it is."""
    limits = {"garbled": flight.tries + 1 >= TRIES, "error": flight.tries + 1 >= TRIES}
    limits |= {"timeout": flight.overdue + 1 >= OVERDUE, "lost": flight.strikes + 1 >= STRIKES, "bad_request": True}
    return limits.get(fault.kind, False)
