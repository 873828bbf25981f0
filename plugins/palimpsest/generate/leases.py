"""Who may generate what just now: leases in the catalog, one per lane of documents, kept alive by a heartbeat.

Two workers that have the same request before them, of one study or of two, meet at its document's lane. What counts
is who holds the lane at the moment of writing: `Leases.keep` holds the catalog's rows while it is written, so a
worker that was stopped for an hour cannot write under a lease that another has taken over meanwhile.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

from palimpsest.catalog import Catalog
from palimpsest.lake import Lake, digest_json
from palimpsest.liveness import identity

log = logging.getLogger(__name__)

TTL_S = 60.0
"""What a worker on another machine waits after this one vanished; on the same machine nothing."""
BEATS = 4
"""Renewals per time to live."""

Lane = int | str
"""A lane of documents, or another thing that one worker does at a time, by its name."""


class LeaseLost(ConnectionError):
    """Another worker has taken over: what was not stored is its to generate. Running again is safe."""

    def __init__(self, lanes: set[Lane]) -> None:
        self.lanes = lanes
        super().__init__(
            f"{len(lanes)} leases were taken over by another worker (this one was silent for too long); what it had "
            "stored is kept, run this again"
        )


class Leases:
    """The leases of one worker; used as a context, it gives back what it still holds."""

    def __init__(self, catalog: Catalog, lake: Lake, holder: str | None = None, ttl_s: float | None = None) -> None:
        self.catalog = catalog
        self.holder = holder or f"{identity()}/{secrets.token_hex(4)}"
        self.ttl_s = TTL_S if ttl_s is None else ttl_s
        self.held: set[Lane] = set()
        self._lost: set[Lane] = set()
        self._lake = digest_json(lake.root if not lake.local else lake.base)[:8]
        self._mutex = threading.Lock()  # the heartbeat and a write would wait for each other's rows
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, lanes: Iterable[Lane]) -> set[Lane]:
        """Those of ``lanes`` that are this worker's now; the others are held by somebody."""
        names = {self._name(lane): lane for lane in lanes}
        with self._mutex:
            taken = {names[name] for name in self.catalog.take_leases(names, self.holder, self.ttl_s)}
            self.held |= taken
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="leases", daemon=True)
            self._heart.start()
        return taken

    def renew(self) -> None:
        """Prolong all leases; raises `LeaseLost` if one was taken over."""
        with self._mutex:
            lanes = set(self.held)
        with self.keep(lanes):
            pass

    def check(self) -> None:
        """Raise `LeaseLost` if the heartbeat has found that one was taken over."""
        if self._lost:
            raise LeaseLost(set(self._lost))

    @contextmanager
    def keep(self, lanes: Iterable[Lane]) -> Iterator[None]:
        """While the block runs, nobody can take these lanes; raises `LeaseLost` before it if somebody has."""
        names = {self._name(lane): lane for lane in lanes}
        with self._mutex, self.catalog.keep_leases(names, self.holder, self.ttl_s) as kept:
            lost = {names[name] for name in names.keys() - kept}
            if lost:
                self.held -= lost
                self._lost |= lost
                raise LeaseLost(lost)
            yield

    def release(self, lanes: Iterable[Lane]) -> None:
        lanes = set(lanes)
        with self._mutex:
            self.held -= lanes
            self.catalog.release_leases([self._name(lane) for lane in lanes], self.holder)

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        try:
            self.release(self.held)
        except ConnectionError as unreachable:  # they will expire; what happened inside matters more
            log.warning("leases are not given back: %s", unreachable)

    def _name(self, lane: Lane) -> str:
        return f"{self._lake}/{lane}"

    def _beat(self) -> None:
        """Renews until stopped. A catalog that is away for a while is tried again: what nobody took is still ours."""
        while not self._stop.wait(self.ttl_s / BEATS):
            started = time.monotonic()
            try:
                self.renew()
            except LeaseLost as lost:  # the next write will say so too, unless it needs none of them
                log.warning("%s", lost)
            except ConnectionError as unreachable:
                log.warning("leases are not renewed: %s", unreachable)
            else:
                if (late := time.monotonic() - started) > self.ttl_s:
                    log.warning("renewing the leases took %.0f s; others may take them", late)
