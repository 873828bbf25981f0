"""The page of a study's generation: what is planned and done, what it cost, what serves it, and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from palimpsest_airflow.ui.html import bar, document, duration, figures, number, percent, table, tiles
from palimpsest_airflow.ui.seconds import moment, seconds_of, state
from palimpsest_airflow.ui.standing import Progress, Serving, Standing
from palimpsest_airflow.ui.vitals import Vitals

RELOAD_S = 10
"""The page of a study whose generation runs is loaded again so often."""
UNRECORDED = (
    " That does not help those <i>not recorded</i>: the file of the strategy has no text for them; complete it, which "
    "makes it another file, and run the Dag again."
)


def generation_page(s: Standing, dag_page: str, *, held: bool = False) -> str:
    """``dag_page`` is the address of the study's Dag in Airflow; ``held``: not loaded again by itself.

    Everything is escaped here.
    """
    name, dag = escape(s.study), f'<a href="{escape(dag_page)}" target=_top>'
    body = [
        "<p class=quiet><a href=../../>Palimpsest</a></p>",
        f"<h1>Generation of <code>{name}</code></h1>",
        f"<p class=quiet>Planned {moment(s.planned_at)} &middot; {dag}Dag study_{name}</a>{_reloads(s, held)}</p>",
        _summary(s),
        "<h2>Plan and ledger</h2>",
        _progress(s.progress),
        *(["<h2>Servers</h2>", _servers(s.servers)] if s.servers is not None else []),
        "<h2>Engine seconds</h2>",
        seconds_of(s.usage),
        "<h2>Failed requests</h2>",
        _failures(s, dag),
    ]
    return document(f"Generation of {s.study}", "\n".join(body), wide=True)


def metrics_page(server: str, url: str, text: str) -> str:
    title = f"Metrics of {server}"
    head = f"<p class=quiet><a href=../../>Generation</a></p><h1>{escape(title)}</h1><p><code>{escape(url)}</code></p>"
    return document(title, f"{head}<pre>{escape(text)}</pre>", wide=True)


def _reloads(s: Standing, held: bool) -> str:
    if not s.runs:
        return ""
    if held:
        return " &middot; <a href=?>Reload every few seconds</a>"
    return f" &middot; loaded again every {RELOAD_S} s while it runs (<a href='?held=1'>hold still</a>)"


def _summary(s: Standing) -> str:
    planned, done, failed = (sum(getattr(p, key) for p in s.progress) for key in ("planned", "done", "failed"))
    hours = [p.gpu_hours_left for p in s.progress if p.left and p.tokens_left is not None]
    named = {
        "of the requests are in the ledger": percent(done / planned if planned else None),
        "have failed": number(failed),
        "of engine time paid": duration(sum(row["paid_seconds"] or 0 for row in s.usage)),
    }
    if hours:
        named[f"GPU hours left (budget {s.budget:g})"] = "unknown" if None in hours else number(sum(hours), 2)
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
                state(s.state),
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


def _failures(s: Standing, dag: str) -> str:
    total = sum(s.causes.values())
    if not total:
        return "<p class=quiet>None.</p>"
    causes: Counter[str] = Counter()
    for (_, cause), count in s.causes.items():
        causes[cause] += count
    counted = ", ".join(f"{escape(cause)} {count:,}" for cause, count in causes.most_common())
    how = (
        f"<p>{total:,} in all: {counted}. They cost nothing more until someone asks again: on the page of the {dag}Dag"
        "</a> press <b>Trigger</b>, switch <b>Replay failed requests</b> on, and start the run."
        f"{UNRECORDED * ('not_recorded' in causes)}</p>"
    )
    rows = [
        (
            f"<code>{escape(str(row['strategy']))}</code> {row['g']}" + (f".{row['part']}" if row["part"] else ""),
            f"<span class=bad>{escape(str(row['cause']))}</span><br><span class=quiet>{escape(str(row['url']))}</span>",
            f"{escape(str(row['detail'] or ''))}<br><span class=quiet>{_tries(row)}</span>",
        )
        for row in s.failures
    ]
    shown = f"<p class=quiet>The newest {len(rows):,} are listed.</p>" if total > len(rows) else ""
    return how + table(("sample", "cause and page", "what the engine said"), rows, "texts") + shown


def _tries(row: Mapping[str, Any]) -> str:
    return f"{row['tries']:,} {'try' if row['tries'] == 1 else 'tries'}, the last at {moment(row['last_at'])}"


def _bad(count: int) -> str:
    return f"<span class=bad>{number(count)}</span>" if count else number(count)
