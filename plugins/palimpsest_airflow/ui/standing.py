"""How a study's generation stands, gathered for its page: plan against ledger, servers, failed requests."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from palimpsest_airflow.tasks.serving import servers
from palimpsest_airflow.ui.vitals import NoMetrics, Vitals, answers, metrics, vitals

if TYPE_CHECKING:
    from palimpsest.catalog import Catalog
    from palimpsest.config import Study
    from palimpsest.lake import Lake, Published

FAILURES, LOOKED_AT = 200, 5_000
"""Failed requests of the plan that are listed, among so many of all studies; counts are over all."""
FRESH_S = 10.0
STALE = dt.timedelta(minutes=2)
"""Attempts renew their line every 15 s."""
AT_A_TIME = 16
"""Servers asked for their metrics at the same time; one that does not answer takes two seconds."""


@dataclass(frozen=True)
class Progress:
    """One strategy: requests planned, with a text in the ledger, failed for good, and left to be paid."""

    strategy: str
    engine: str
    planned: int
    done: int
    failed: int
    left: int
    tokens_left: int | None = None
    """Output tokens expected of what is left; None for engines without a model."""
    gpu_hours_left: float | None = None


@dataclass(frozen=True)
class Serving:
    """One vLLM server: where it is, how it is, what it says of itself; ``page`` shows its raw metrics."""

    name: str
    model: str
    url: str
    state: str
    restarts: int | None
    vitals: Vitals | None
    page: str
    trouble: str = ""


@dataclass(frozen=True)
class Standing:
    """All that the page shows of a study."""

    study: str
    budget: float
    planned_at: dt.datetime
    progress: Sequence[Progress]
    usage: Sequence[Mapping[str, Any]]
    """Attempts, as the catalog has them."""
    servers: Sequence[Serving] | None
    """None: the study needs no server."""
    causes: Mapping[tuple[str, str], int]
    """Failed requests by strategy and cause."""
    failures: Sequence[Mapping[str, Any]]
    """The newest of them, as the catalog has them."""

    @property
    def runs(self) -> bool:
        """Whether an attempt is running; one whose process was killed counts until its heartbeat is `STALE` old."""
        now = dt.datetime.now(dt.UTC)
        return any(row["state"] == "running" and now - _utc(row["heartbeat_at"]) < STALE for row in self.usage)


def standing(study: Study, lake: Lake, planned: Published, catalog: Catalog) -> Standing:
    """Everything the page shows."""
    with closing(catalog):
        catalog.ready()
        usage, failures = catalog.usage(study.name), catalog.failed_requests(None, LOOKED_AT)
    costs = _costs(study, lake, planned)
    return Standing(
        study=study.name,
        budget=study.budget_gpu_hours,
        planned_at=lake.fs.modified(f"{lake.base}/{planned.uri}/manifest.json"),
        progress=progress(study, costs),
        usage=usage,
        servers=servings(study) if servers(study) else None,
        causes={(cost.strategy, cause): count for cost in costs for cause, count in cost.failed.items()},
        failures=_planned(planned, failures)[:FAILURES],
    )


def servings(study: Study) -> list[Serving]:
    """Every server that serves the study now or that it names, with its own figures where it answers."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(_asked, known_servers(study)))


def known_servers(study: Study) -> list[Serving]:
    """The study's servers as its file and the keepers say, none asked."""
    from palimpsest import serve

    found, kept = [], serve.status()
    for name in servers(study):
        server = study.servers[name]
        model = f"{server.model}@{server.revision[:12]}" if server.revision else server.model
        for number, url in enumerate(server.endpoints):
            found.append(Serving(f"{name}/{number}", model, url, "endpoint", None, None, f"metrics/{name}/{number}/"))
        for status in kept:
            if f"{study.name}.{name}" not in status.users or status.state == "stopped":
                continue
            trouble = _why(status.error)
            if not status.replicas:
                found.append(Serving(name, model, "", status.state, None, None, "", trouble))
            for r in status.replicas:
                state = status.state if status.state in ("dead", "stopping") else r["state"]
                restarts, page = max(r["starts"] - 1, 0), f"metrics/{name}/{r['replica']}/"
                why = _why(r.get("error")) or trouble
                found.append(Serving(f"{name}/{r['replica']}", model, r["url"] or "", state, restarts, None, page, why))
    return found


def _asked(server: Serving) -> Serving:
    if not server.url or server.state == "dead":
        return server
    try:
        return replace(server, vitals=vitals(metrics(server.url)))
    except ConnectionError as error:
        if isinstance(error, NoMetrics) and answers(server.url):
            return replace(server, trouble=server.trouble or f"{server.url}: answers; no /metrics")
        return replace(server, state=_lost(server), trouble=server.trouble or str(error))


def _lost(server: Serving) -> str:
    """The state of one that does not answer; of the platform's own servers the keeper knows better."""
    return "away" if server.state == "endpoint" else server.state


def _why(error: str | None) -> str:
    """The first line of a keeper's error: the lines of the server's log that follow it are in that file."""
    return (error or "").partition("\n")[0].replace("; the end of its log, ", "; its log: ").removesuffix(":")


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _planned(planned: Published, failures: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the plan, whichever study asked for them first."""
    import pyarrow.parquet as pq

    wanted = [("key", "in", {row["key"] for row in failures})]
    keys = pq.read_table(planned.file("requests.parquet"), columns=["key"], filters=wanted) if failures else None
    found = set(keys["key"].to_pylist()) if keys else set()
    return [row for row in failures if row["key"] in found]


def progress(study: Study, costs: Sequence[Any]) -> list[Progress]:
    """Per strategy, what is planned, has a text, has failed for good and is left, by the ledger as it is now."""
    return [
        Progress(
            strategy=cost.strategy,
            engine=f"{study.strategies[cost.strategy].engine.kind}" + (f" · {cost.server}" if cost.server else ""),
            planned=cost.requests,
            done=cost.held - sum(cost.failed.values()),
            failed=sum(cost.failed.values()),
            left=cost.left,
            tokens_left=cost.output_tokens if cost.server else None,
            gpu_hours_left=cost.gpu_hours if cost.server else None,
        )
        for cost in costs
    ]


_COUNTED: dict[str, tuple[float, Any]] = {}


def _costs(study: Study, lake: Lake, planned: Published) -> Any:
    """The estimate, made anew at most every `FRESH_S` seconds: a million requests take several to count."""
    from palimpsest.generate.estimate import estimate
    from palimpsest.generate.ledger import Ledger

    place = f"{lake.root} {planned.uri} {planned.digest}"
    counted = _COUNTED.get(place)
    if not counted or time.monotonic() - counted[0] > FRESH_S:
        found = estimate(study, planned, Ledger(lake)).costs
        counted = _COUNTED[place] = (time.monotonic(), found)
    return counted[1]
