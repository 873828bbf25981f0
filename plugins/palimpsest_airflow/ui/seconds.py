"""The table of engine seconds: one row per shard and the sum, and each shard's attempts folded below."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from palimpsest_airflow.ui.html import duration, figures, fold, number

ATTEMPTS = 30
"""Rows shown per shard; sums are over all."""
SECONDS = ("wall", "paid", "useful", "flying", "repaid", "failed", "idle")
HEADER = ("wall", "paid", "useful", "in flight", "repaid", "failed", "idle", "requests", "tokens", "tokens/s")
NOTE = (
    "Wall clock = paid + idle; paid = useful + in flight + repaid + failed. <i>In flight</i>: of attempts that run, "
    "what has no stored answer yet; it becomes useful once it has. <i>Repaid</i>: of attempts that ended, in whatever "
    "way, what had no stored answer then: it is asked for, and paid, again. <i>Failed</i>: requests that ended without "
    "a text. An attempt is one strategy, or one round of review, of a shard. Shards that run side by side share their "
    "servers; each counts by its own clock."
)
GOOD, WAITING = {"ready", "done", "endpoint", "running"}, {"starting", "restarting"}

Attempt = Mapping[str, Any]
"""A row of the catalog's `EngineUsage`."""


def seconds_of(usage: Sequence[Attempt]) -> str:
    """All attempts of a study, as HTML."""
    if not usage:
        return "<p class=quiet>Nothing has been generated yet.</p>"
    shards: defaultdict[int, list[Attempt]] = defaultdict(list)
    for attempt in sorted(usage, key=lambda row: str(row["started_at"]), reverse=True):
        shards[attempt["shard"]].append(attempt)
    rows = [
        (f"shard {shard}", _engines(attempts), _states(attempts), number(len(attempts)), *_figures(attempts))
        for shard, attempts in sorted(shards.items())
    ]
    total = ("all", "", "", number(len(usage)), *_figures(usage))
    table = figures(("shard", "engine", "state", "attempts", *HEADER), rows, total, words=3)
    folded = "".join(_attempts(shard, attempts) for shard, attempts in sorted(shards.items()))
    return f"{table}<p class=quiet>{NOTE}</p>{folded}"


def state(name: str) -> str:
    """A state in the colour of what it means."""
    kind = "good" if name in GOOD else "wait" if name in WAITING else "bad"
    return f"<span class={kind}>{escape(name)}</span>"


def moment(when: dt.datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC" if when else "–"


def _attempts(shard: int, attempts: Sequence[Attempt]) -> str:
    rows = [
        (
            f"{row['started_at']:%Y-%m-%d %H:%M:%S}",
            escape(str(row["engine"])),
            state(str(row["state"])),
            *_figures([row]),
        )
        for row in attempts[:ATTEMPTS]
    ]
    left = len(attempts) - len(rows)
    more = f"<p class=quiet>{left:,} older attempts are not shown; the sums are over all.</p>" if left > 0 else ""
    shown = figures(("started, UTC", "engine", "state", *HEADER), rows, words=3) + more
    return fold(f"Shard {shard}: {len(attempts):,} attempt{'s' * (len(attempts) > 1)}, the newest first", shown)


def _engines(attempts: Sequence[Attempt]) -> str:
    return escape(", ".join(sorted({str(row["engine"]) for row in attempts})))


def _states(attempts: Sequence[Attempt]) -> str:
    """Of each state how many; that of the only or newest attempt stands first."""
    counted = Counter(str(row["state"]) for row in attempts)
    if len(counted) == 1:
        return state(next(iter(counted)))
    return ", ".join(f"{count:,} {state(name)}" for name, count in counted.items())


def _figures(attempts: Sequence[Attempt]) -> tuple[str, ...]:
    spent: Counter[str] = Counter()
    for row in attempts:
        spent.update({key: row[key] or 0 for key in ("requests", "output_tokens")})
        running = row["state"] == "running"
        for name in ("wall", "paid", "useful", "repaid", "failed", "idle"):  # the catalog keeps what flies as repaid
            spent["flying" if running and name == "repaid" else name] += row[f"{name}_seconds"] or 0
    tokens, paid = spent["output_tokens"], spent["paid"]
    return (
        *(duration(spent[name]) for name in SECONDS),
        number(spent["requests"]),
        number(tokens),
        number(tokens / paid if paid and tokens else None),
    )
