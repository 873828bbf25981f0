"""One line of the throughput ledger: an engine opened by one run over a shard, until it ends, fails or is killed."""

from __future__ import annotations

import datetime as dt
import logging
import time
import uuid
from collections.abc import Iterable

from palimpsest.catalog import Catalog
from palimpsest.generate.engines import Engine
from palimpsest.generate.requests import Outcome
from palimpsest.liveness import identity

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
STORED_S = 0.9
"""At least so far apart are the line's renewals by what is stored (commits come once a second, or faster)."""


class Attempt:
    """Where an engine's seconds went; useful and failed are only those whose outcome is stored."""

    def __init__(self, catalog: Catalog, study: str, shard: int, engine: Engine) -> None:
        self.catalog = catalog
        self.engine = engine
        self.useful = self.failed = 0.0
        self.requests = self.input_tokens = self.output_tokens = 0
        self._line = {"study": study, "shard": shard, "engine": engine.name, "model": engine.model}
        self._line |= {"worker": identity(), "started_at": dt.datetime.now(dt.UTC)}
        self._name = uuid.uuid4().hex
        self._written = 0.0
        self.write("running")

    def store(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes that the ledger has now; the line says so at once, for a process may be killed any time."""
        for outcome in outcomes:
            self.requests += 1
            self.input_tokens += outcome.input_tokens or 0
            self.output_tokens += outcome.output_tokens or 0
            if outcome.text is None:
                self.failed += outcome.engine_seconds
            else:
                self.useful += outcome.engine_seconds
        self.beat(STORED_S)

    def beat(self, every_s: float = HEARTBEAT_S) -> None:
        """Renew the line if the last time is long enough ago."""
        if time.monotonic() - self._written >= every_s:
            try:
                self.write("running")
            except ConnectionError as unreachable:  # the next time is soon enough: what counts is in the ledger
                log.warning("the engine's seconds are not in the catalog: %s", unreachable)

    def end(self, state: str) -> dict[str, float]:
        """Close the line; one that the catalog cannot take now stays 'running', and is 'dead' to the next run."""
        try:
            return self.write(state)
        except ConnectionError as unreachable:
            log.warning("the engine's seconds are not in the catalog: %s", unreachable)
            return self._seconds()

    def write(self, state: str) -> dict[str, float]:
        """Renew the line; its seconds. Busy seconds without a stored outcome stand under repaid."""
        self._written = time.monotonic()
        seconds = self._seconds()
        counts = {name: getattr(self, name) for name in ("requests", "input_tokens", "output_tokens")}
        columns = {f"{name}_seconds": value for name, value in seconds.items()}
        self.catalog.record_usage(self._name, state=state, **self._line, **columns, **counts)
        return seconds

    def _seconds(self) -> dict[str, float]:
        spent = self.engine.meter.snapshot()
        repaid = max(0.0, spent.paid - self.useful - self.failed)
        stored = {"useful": self.useful, "repaid": repaid, "failed": self.failed}
        return {"wall": spent.wall, "paid": spent.paid, **stored, "idle": spent.idle}
