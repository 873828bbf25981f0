"""How a study's generation stands, gathered for its page: plan against ledger, servers, failed requests."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from palimpsest_airflow.tasks.serving import servers
from palimpsest_airflow.ui.generation import Progress, Serving
from palimpsest_airflow.ui.vitals import metrics, vitals

if TYPE_CHECKING:
    from palimpsest.config import Study
    from palimpsest.lake import Lake, Published

FRESH_S = 10.0
AT_A_TIME = 16
"""Servers asked for their metrics at the same time; one that does not answer takes two seconds."""


def planned_at(planned: Published) -> dt.datetime:
    """When the plan was made."""
    return planned.lake.fs.modified(f"{planned.lake.base}/{planned.uri}/manifest.json")


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
            trouble = status.error.splitlines()[0] if status.error else ""
            if not status.replicas:
                found.append(Serving(name, model, "", status.state, None, None, "", trouble))
            for r in status.replicas:
                state = status.state if status.state in ("dead", "stopping") else r["state"]
                restarts, page = max(r["starts"] - 1, 0), f"metrics/{name}/{r['replica']}/"
                why = (r.get("error") or trouble).partition("\n")[0]
                found.append(Serving(f"{name}/{r['replica']}", model, r["url"] or "", state, restarts, None, page, why))
    return found


def _asked(server: Serving) -> Serving:
    if not server.url or server.state == "dead":
        return server
    try:
        return replace(server, vitals=vitals(metrics(server.url)))
    except ConnectionError as error:
        state = "away" if server.state == "endpoint" else server.state
        return replace(server, state=state, trouble=server.trouble or str(error))


def progress(study: Study, lake: Lake, planned: Published, failures: Sequence[Mapping[str, Any]]) -> list[Progress]:
    """Per strategy, what is planned, has a text, has failed for good and is left, by the ledger as it is now."""
    failed = Counter(row["strategy"] for row in failures)
    return [
        Progress(
            strategy=cost.strategy,
            engine=f"{study.strategies[cost.strategy].engine.kind}" + (f" · {cost.server}" if cost.server else ""),
            planned=cost.requests,
            done=max(cost.held - failed[cost.strategy], 0),
            failed=failed[cost.strategy],
            left=cost.left,
            tokens_left=cost.output_tokens if cost.server else None,
            gpu_hours_left=cost.gpu_hours if cost.server else None,
        )
        for cost in _costs(study, lake, planned)
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
