"""The page of a study's generation: what is planned and done, what it cost, what serves it, and what failed."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from palimpsest_airflow.ui.html import bar, document, duration, figures, number, percent, table, tiles
from palimpsest_airflow.ui.vitals import Vitals

if TYPE_CHECKING:
    from palimpsest.config import Study

ATTEMPTS, FAILURES = 30, 200
"""Rows shown; the sums and counts above them are over all."""
SECONDS = ("wall", "paid", "useful", "repaid", "failed", "idle")
GOOD, WAITING = {"ready", "done", "endpoint", "running"}, {"starting", "restarting"}


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


def generation_page(
    study: Study,
    planned_at: dt.datetime | None,
    progress: Sequence[Progress],
    usage: Sequence[Mapping[str, Any]],
    servers: Sequence[Serving],
    failures: Sequence[Mapping[str, Any]],
    dag_page: str,
) -> str:
    """``usage`` and ``failures`` are rows of the catalog; everything is escaped here."""
    body = [
        "<p class=quiet><a href=../../>Palimpsest</a></p>",
        f"<h1>Generation of <code>{escape(study.name)}</code></h1>",
        f'<p class=quiet>Planned {_moment(planned_at)} &middot; <a href="{escape(dag_page)}" target=_top>Dag '
        f"study_{escape(study.name)}</a></p>",
        _summary(progress, usage, study.budget_gpu_hours),
        "<h2>Plan and ledger</h2>",
        _progress(progress),
        *(["<h2>Servers</h2>", _servers(servers)] if study.servers else []),
        "<h2>Engine seconds</h2>",
        _usage(usage),
        "<h2>Failed requests</h2>",
        _failures(failures, dag_page),
    ]
    return document(f"Generation of {study.name}", "\n".join(body), wide=True)


def metrics_page(server: str, url: str, text: str) -> str:
    title = f"Metrics of {server}"
    head = f"<p class=quiet><a href=../../>Generation</a></p><h1>{escape(title)}</h1><p><code>{escape(url)}</code></p>"
    return document(title, f"{head}<pre>{escape(text)}</pre>", wide=True)


def _summary(progress: Sequence[Progress], usage: Sequence[Mapping[str, Any]], budget: float) -> str:
    planned, done, failed = (sum(getattr(p, key) for p in progress) for key in ("planned", "done", "failed"))
    hours = [p.gpu_hours_left for p in progress if p.left and p.tokens_left is not None]
    named = {
        "of the requests are in the ledger": percent(done / planned if planned else None),
        "have failed": number(failed),
        "of engine time paid": duration(sum(row["paid_seconds"] or 0 for row in usage)),
    }
    if hours:
        estimate = "unknown" if None in hours else f"{sum(hours):,.2f}"
        named[f"GPU hours left (budget {budget:g})"] = estimate
    return bar(done, planned, "whole") + tiles(named)


def _progress(progress: Sequence[Progress]) -> str:
    rows = [
        (
            f"<code>{escape(p.strategy)}</code>",
            escape(p.engine),
            bar(p.done, p.planned),
            number(p.planned),
            number(p.done),
            _bad(p.failed),
            number(p.left),
            number(p.tokens_left),
            _hours(p),
        )
        for p in progress
    ]
    header = ("strategy", "engine", "", "planned", "in the ledger", "failed", "left", "tokens left", "GPU hours left")
    return figures(header, rows, words=3) if rows else "<p class=quiet>This study generates nothing.</p>"


def _hours(progress: Progress) -> str:
    if progress.tokens_left is None:
        return number(None)
    return "unknown" if progress.gpu_hours_left is None else number(progress.gpu_hours_left, 2)


def _servers(servers: Sequence[Serving]) -> str:
    if not servers:
        return "<p class=quiet>No server is running; a run starts them when there is something to generate.</p>"
    rows = []
    for s in servers:
        seen = s.vitals or Vitals()
        rows.append(
            (
                f"<code>{escape(s.name)}</code> <span class=quiet>{escape(s.model)}<br>"
                f"{escape(s.trouble or s.url)}</span>",
                _state(s.state),
                number(s.restarts),
                number(seen.running),
                number(seen.waiting),
                percent(seen.cache_use),
                percent(seen.prefix_hits),
                number(seen.prompt_tokens),
                number(seen.tokens),
                f'<a href="{escape(s.page)}">metrics</a>' if s.vitals else "",
            )
        )
    header = ("server", "state", "restarts", "running", "waiting", "KV cache", "prefix hits", "tokens in", "tokens out")
    return figures((*header, ""), rows, words=2)


def _usage(usage: Sequence[Mapping[str, Any]]) -> str:
    if not usage:
        return "<p class=quiet>Nothing has been generated yet.</p>"
    header = ("attempt", "engine", "state", *SECONDS, "requests", "tokens", "tokens/s")
    total: Counter[str] = Counter()
    for row in usage:
        total.update({key: row[key] or 0 for key in (*(f"{s}_seconds" for s in SECONDS), "requests", "output_tokens")})
    newest = sorted(usage, key=lambda row: str(row["started_at"]), reverse=True)[:ATTEMPTS]
    rows = [
        (
            f"shard {row['shard']}<br><span class=quiet>{_moment(row['started_at'])}</span>",
            escape(str(row["engine"])),
            _state(str(row["state"])),
            *_seconds(row),
        )
        for row in newest
    ]
    shown = f" The newest {ATTEMPTS} of {len(usage):,} attempts are listed; the sum is over all." * (
        len(usage) > ATTEMPTS
    )
    note = (
        "Wall clock = paid + idle; paid = useful + repaid + failed. <i>Repaid</i>: answers lost in a crash and asked "
        f"for again. <i>Failed</i>: requests that ended without a text.{shown}"
    )
    return figures(header, rows, ("all", "", "", *_seconds(total)), words=3) + f"<p class=quiet>{note}</p>"


def _seconds(row: Mapping[str, Any]) -> tuple[str, ...]:
    paid, tokens = row["paid_seconds"] or 0, row["output_tokens"] or 0
    spent = (duration(row[f"{name}_seconds"]) for name in SECONDS)
    return *spent, number(row["requests"]), number(tokens), number(tokens / paid if paid and tokens else None)


def _failures(failures: Sequence[Mapping[str, Any]], dag_page: str) -> str:
    if not failures:
        return "<p class=quiet>None.</p>"
    causes = Counter(str(row["cause"]) for row in failures)
    counted = ", ".join(f"{escape(cause)} {count:,}" for cause, count in causes.most_common())
    how = (
        f"<p>{len(failures):,} in all: {counted}. They cost nothing more until someone asks again: on the page of the "
        f'<a href="{escape(dag_page)}" target=_top>Dag</a> press <b>Trigger</b>, switch <b>Replay failed requests</b> '
        "on, and start the run.</p>"
    )
    rows = [
        (
            f"<code>{escape(str(row['strategy']))}</code> {row['g']}" + (f".{row['part']}" if row["part"] else ""),
            f"<span class=bad>{escape(str(row['cause']))}</span><br><span class=quiet>{escape(str(row['url']))}</span>",
            f"{escape(str(row['detail'] or ''))}<br><span class=quiet>{_tries(row)}</span>",
        )
        for row in sorted(failures, key=lambda row: str(row["last_at"]), reverse=True)[:FAILURES]
    ]
    shown = f"<p class=quiet>The newest {FAILURES} are listed.</p>" if len(failures) > FAILURES else ""
    return how + table(("sample", "cause and page", "what the engine said"), rows, "texts") + shown


def _tries(row: Mapping[str, Any]) -> str:
    return f"{row['tries']:,} {'try' if row['tries'] == 1 else 'tries'}, the last at {_moment(row['last_at'])}"


def _state(state: str) -> str:
    kind = "good" if state in GOOD else "wait" if state in WAITING else "bad"
    return f"<span class={kind}>{escape(state)}</span>"


def _bad(count: int) -> str:
    return f"<span class=bad>{number(count)}</span>" if count else number(count)


def _moment(moment: dt.datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "–"
