"""One run over one shard: lanes are taken, what is left is asked, outcomes are stored while the lease holds.

What is defective is asked again in the same stream: once everything has been asked for the first time, what has been
answered meanwhile is reviewed while the rest is still in flight, so the servers need not run dry in between.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice

from palimpsest.catalog import Catalog
from palimpsest.config import Study
from palimpsest.generate.attempt import Attempt
from palimpsest.generate.drive import drive
from palimpsest.generate.engines import EngineStats, open_engine
from palimpsest.generate.generations import Generation, fate, most_attempts, planned_generations
from palimpsest.generate.leases import LeaseLost, Leases
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import planned_requests
from palimpsest.generate.progress import Progress, Reporter
from palimpsest.generate.requests import Outcome, Request
from palimpsest.generate.review import Reviewer, open_reviewer
from palimpsest.generate.standing import Standing
from palimpsest.generate.tables import planned_rows
from palimpsest.lake import Lake, Published, digest_json

log = logging.getLogger(__name__)

WAIT_S = 1.0, 5.0
"""Between looks at lanes that others hold: at first, and at most (a look goes through all that is left)."""
WEATHER_S = 60.0
"""How long a commit is tried again while the catalog or the lake is away."""
PILE, TIDY = 64, 16
"""Small segments that are merged when there are so many; looked for after so many commits."""


class Worker:
    """What one process asks of one shard, and what has come of it."""

    def __init__(
        self,
        study: Study,
        lake: Lake,
        *,
        split: Published,
        plan: Published,
        shard: int,
        replay: bool,
        catalog: Catalog,
        leases: Leases,
        progress: Callable[[Progress], None] | None,
        began: float | None = None,
    ) -> None:
        self.study, self.lake, self.inputs = study, lake, {"split": split, "plan": plan, "shard": shard}
        self.shard, self.replay, self.catalog, self.leases = shard, replay, catalog, leases
        self.began = began
        self.ledger = Ledger(lake)
        self.places: dict[str, tuple[str, str]] = {}
        """Lane and strategy of each key, those asked again included."""
        self.lanes: dict[str, dict[str, set[str]]] = {}
        """Model → strategy → lanes not yet finished."""
        for row in planned_rows(plan, ["key", "lane", "strategy", "model"], shard):
            lane = lane_name(row)
            self.places.setdefault(row["key"], (lane, row["strategy"]))
            self.lanes.setdefault(row["model"], {}).setdefault(row["strategy"], set()).add(lane)
        reviewers = {name: open_reviewer(study, name) for lanes in self.lanes.values() for name in lanes}
        self.reviewers = {name: reviewer for name, reviewer in reviewers.items() if most_attempts(reviewer)}
        self.standing = Standing(self.ledger.segments, self.places)
        self.standing.update()
        self.asked: set[str] = set()
        self.flying: dict[str, Request] = {}
        self.made = self.commits = 0
        self.causes: Counter[str] = Counter()
        self.spent: dict[str, Counter[str]] = {}
        self.past = EngineStats()
        """What engines that are closed have counted."""
        left = sum(map(self._is_open, self.places))
        self.reporter = Reporter(left, progress)
        held = len(self.places) - left
        log.info("shard %d: %d of %d requests are in the ledger, %d are to be asked", shard, held, left + held, left)

    def generate(self, model: str) -> None:
        """Everything left of one model, lane by lane as they can be had."""
        waiting = 0.0
        while todo := self._unfinished(model):
            held = self.leases.take(todo)
            self.standing.update()  # what others made before they gave the lanes back
            if held:
                waiting = 0.0
                self._generate(model, held)
                self.leases.release(held & self.leases.held)
                continue
            if not waiting:
                log.info("shard %d: waiting for %d lanes that other workers hold", self.shard, len(todo))
            waiting = min(2 * waiting, WAIT_S[1]) or WAIT_S[0]
            self.reporter.update(0, 0, self.past)
            time.sleep(waiting)

    def tidy(self) -> None:
        """Merge small segments if they have piled up and nobody else does."""
        if self.ledger.small_segments() >= PILE and self.leases.take({"compact"}):
            self.ledger.compact(PILE)
            self.leases.release({"compact"})

    def unlisted_failures(self) -> list[dict[str, object]]:
        """Failures of this shard that the ledger holds, as the catalog lists them; most are there already."""
        failed = self.standing.failed()
        if not failed:
            return []
        causes = {row["key"]: row for row in self.ledger.failures(failed).to_pylist()}
        names = ["key", "url", "strategy", "g", "part"]
        rows = (row for row in planned_rows(self.inputs["plan"], names, self.shard) if row["key"] in causes)
        return [self._failure(row, causes[row["key"]]["cause"], causes[row["key"]]["detail"]) for row in rows]

    def _generate(self, model: str, held: set[str]) -> None:
        for name, lanes in self.lanes[model].items():
            mine = lanes & held
            left = {key for key, place in self.places.items() if place[1] == name and place[0] in mine}
            left = {key for key in left if self._is_open(key)}
            requests: Iterator[Request] = iter(())
            if left:
                requests = planned_requests(self.study, self.lake, **self.inputs, keys=left)
            if name in self.reviewers:
                review = _Review(self, name, mine)
                self._ask(name, chain(requests, review.again()))
                while review.waiting:
                    self._ask(name, review.again())
                    if not review.asked:  # what is still open was answered, and its segment is damaged since
                        break
            else:
                self._ask(name, requests)
            lanes -= mine

    def _ask(self, strategy: str, requests: Iterator[Request]) -> None:
        first = next(requests, None)
        if first is None:
            return
        engine = open_engine(self.study, strategy, self.lake, self.began)
        attempt = Attempt(self.catalog, self.study.name, self.shard, engine)

        def stats() -> EngineStats:
            now = engine.stats()
            tokens, retries = self.past.output_tokens + now.output_tokens, self.past.retries + now.retries
            return replace(now, output_tokens=tokens, retries=retries)

        def commit(outcomes: list[Outcome]) -> None:
            stored = self._store(outcomes)
            attempt.store(stored)  # before anything else can fail: these seconds are not paid again
            self._note(stored)
            self.reporter.update(len(stored), sum(o.text is None for o in stored), stats())
            if len(stored) < len(outcomes):
                self.leases.check()

        def tick() -> None:
            self.leases.check()
            attempt.beat()
            self.reporter.update(0, 0, stats())

        state = "failed"
        try:
            drive(engine, self._noted(chain([first], requests)), commit=commit, tick=tick)
            state = "done"
        finally:
            self.past = replace(stats(), in_flight=0)
            spent = Counter(attempt.end(state), requests=attempt.requests)
            self.spent.setdefault(engine.name, Counter()).update(spent)

    def _noted(self, requests: Iterator[Request]) -> Iterator[Request]:
        for request in requests:
            self.flying[request.key] = request
            self.asked.add(request.key)
            yield request

    def _store(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Append what may be appended: all, or what lies in lanes that nobody has taken over."""
        try:
            segment = self._append(outcomes)
        except LeaseLost as lost:
            outcomes = [o for o in outcomes if self.places[o.key][0] not in lost.lanes]
            if not outcomes:
                raise
            segment = self._append(outcomes)
        self.standing.add(segment, outcomes)
        return outcomes

    def _note(self, stored: list[Outcome]) -> None:
        """Count what is stored, and keep the catalog's list of failures true."""
        failed = []
        for outcome in stored:
            request = self.flying.pop(outcome.key, None)
            if request is None:  # an interrupted commit, done once more
                continue
            if outcome.text is None:
                self.causes[outcome.cause] += 1
                row = {name: getattr(request, name) for name in ("key", "url", "strategy", "g", "part")}
                failed.append(self._failure(row, outcome.cause, outcome.detail))
            else:
                self.made += 1
        if failed:
            self.catalog.record_failures(failed)
        self.catalog.forget_failures(o.key for o in stored if o.text is not None)
        self.commits += 1
        if self.commits % TIDY == 0:
            self.tidy()

    def _append(self, outcomes: list[Outcome]) -> str:
        lanes = {self.places[outcome.key][0] for outcome in outcomes}
        started, pause = time.monotonic(), 0.5
        while True:
            try:
                with self.leases.keep(lanes):
                    return self.ledger.append(outcomes)
            except LeaseLost:
                raise
            except (ConnectionError, TimeoutError) as weather:
                if time.monotonic() - started > WEATHER_S:
                    raise
                log.warning("%d outcomes are not stored yet, trying again: %s", len(outcomes), weather)
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    def _unfinished(self, model: str) -> set[str]:
        """Lanes with something to ask, or to review."""
        for name, lanes in self.lanes[model].items():
            if name not in self.reviewers:
                lanes &= {place[0] for key, place in self.places.items() if place[1] == name and self._is_open(key)}
        return set().union(*self.lanes[model].values())

    def _is_open(self, key: str) -> bool:
        return key not in self.asked and not self.standing.is_done(key, self.replay)

    def _failure(self, row: dict[str, object], cause: str, detail: str | None) -> dict[str, object]:
        return {**row, "study": self.study.name, "shard": self.shard, "cause": cause, "detail": detail}


class _Review:
    """What of a strategy's lanes has to be asked again, found pass by pass until a pass asks nothing new."""

    def __init__(self, worker: Worker, strategy: str, lanes: set[str]) -> None:
        self.worker, self.strategy, self.lanes = worker, strategy, lanes
        self.reviewer: Reviewer = worker.reviewers[strategy]
        self.final: set[int] = set()
        self.asked = self.waiting = 0
        """In the last pass: requests asked again, and generations that are not final yet."""

    def again(self) -> Iterator[Request]:
        """One pass over what is not final yet; an answer that is still awaited is left to the next."""
        worker = self.worker
        self.asked = self.waiting = 0
        rows = worker.ledger.in_order(key for _, generation in self._left() for key in generation.keys)
        for number, generation in self._left():
            found = fate(generation, list(islice(rows, generation.size)), self.reviewer)
            wanted = found.open
            if found.failed and worker.replay:
                wanted = (found.failed[0],)
            wanted = tuple(request for request in wanted if request.key not in worker.asked)
            if not found.open and not wanted:
                self.final.add(number)
                continue
            self.waiting += 1
            for request in wanted:
                worker.places[request.key] = (lane_name(generation.planned[0]), self.strategy)
                worker.reporter.total += 1
                self.asked += 1
                yield request

    def _left(self) -> Iterator[tuple[int, Generation]]:
        worker = self.worker
        every = planned_generations(worker.study, worker.lake, self.reviewer, self.strategy, **worker.inputs)
        for number, generation in enumerate(every):
            if number not in self.final and lane_name(generation.planned[0]) in self.lanes:
                yield number, generation


def lane_name(planned: Mapping[str, object]) -> str:
    """What is leased: the same text may be written over by two models at a time, as no key of theirs is the same."""
    return f"{digest_json(planned['model'])[:8]}-{planned['lane']}"
