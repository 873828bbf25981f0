"""Tasks of a corpus Dag: from the days of a run to the documents studies may use."""

from __future__ import annotations

import datetime as dt
import logging

from airflow.sdk import get_current_context

from palimpsest_airflow.tasks.common import Ref, keep_data_docs, opened, stage, work

log = logging.getLogger(__name__)


@stage()
def fetch(corpus: str) -> Ref:
    """Source files that lie elsewhere, whole and checked, in the lake; what came of a file before is gone on from."""
    from palimpsest.config import load_corpus
    from palimpsest.fetch.stage import fetch_corpus

    with work() as lake:
        return fetch_corpus(load_corpus(corpus), lake).ref


@stage()
def extract(corpus: str, fetched: Ref | None = None) -> list[Ref]:
    """Pages of the run's days, parsed, repaired, redacted and scored: one dataset per day.

    A crawl is made after its interval has ended: a run of a crawled corpus takes every day of which a crawl captured
    pages, so that what an earlier run did not get to is caught up on.
    """
    from palimpsest.config import load_corpus
    from palimpsest.fetch.crawls import all_crawled_days, crawled_days
    from palimpsest.ingest.stage import extract_days

    loaded = load_corpus(corpus)
    with work() as lake:
        context = get_current_context()
        if loaded.source.kind == "crawl":
            own, crawled = crawled_days(opened(lake, fetched)), all_crawled_days(loaded, lake)
            days = crawl_days(context, loaded.start, loaded.end, own, crawled)
        else:
            days = run_days(context, loaded.start, loaded.end)
        return [published.ref for published in extract_days(loaded, days, lake)]


@stage(pool="dbt", max_active_tis_per_dag=1)
def documents(corpus: str, pages: list[Ref]) -> Ref:
    """Filtered, deduplicated documents of all days extracted so far; every dropped page with its reason (dbt).

    One at a time, also in a backfill: the last to finish must be the one that has seen all days. The log ends with what
    became of the records of each of the run's days, and of all days together.
    """
    from palimpsest.config import load_corpus
    from palimpsest.documents import build_documents
    from palimpsest.funnel import funnels, together

    with work() as lake:
        published = build_documents(load_corpus(corpus), lake)
        found = funnels(published)
        wanted = {opened(lake, ref).extra["day"] for ref in pages}
        for day, funnel in found.items():
            if day.isoformat() in wanted:
                log.info("%s: %s", day, funnel)
        log.info("all %d days: %s", len(found), together(found))
        return published.ref


@stage()
def gate(corpus: str, documents: Ref) -> Ref:
    """The verdict on the documents (Great Expectations); a critical failure ends the run here."""
    from expectations.gate import gate_documents
    from palimpsest.config import load_corpus

    keep_data_docs()
    with work() as lake:
        verdict = gate_documents(load_corpus(corpus), lake, documents=opened(lake, documents))
        keep_data_docs(verdict.extra["data_docs"])
        return verdict.ref


@stage()
def publish(documents: Ref, verdict: Ref) -> Ref:
    """The corpus asset's new version; studies of this corpus start now."""
    context = get_current_context()
    with work() as lake:
        published = opened(lake, documents)
        for asset in context["task"].outlets:
            context["outlet_events"][asset].extra = {**published.ref, "verdict": verdict["uri"]}
        return published.ref


def run_days(context, start: dt.date, end: dt.date) -> list[dt.date]:
    """The days a run stands for: its params 'from' and 'to', else its data interval; by hand and bare, all days.

    ``start`` and ``end`` are the corpus's own first and last day, both inclusive.
    """
    params = context["params"]
    if params.get("from") or params.get("to"):
        first = dt.date.fromisoformat(params["from"]) if params.get("from") else start
        last = dt.date.fromisoformat(params["to"]) if params.get("to") else end
        if last < first:
            raise ValueError(f"params: 'to' ({last}) lies before 'from' ({first}); trigger again with a later 'to'")
        if first > end or last < start:
            raise ValueError(f"params: {first} to {last} lies outside the corpus' days {start} to {end}; trigger again")
    elif context["dag_run"].run_type == "manual":
        first, last = start, end
    else:
        first = context["data_interval_start"].date()
        last = (context["data_interval_end"] - dt.timedelta(microseconds=1)).date()
    first, last = max(first, start), min(last, end)
    return [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]


def crawl_days(context, start: dt.date, end: dt.date, own: list[dt.date], crawled: list[dt.date]) -> list[dt.date]:
    """The days of capture that a run of a crawled corpus takes: those that its params 'from' and 'to' name, else all.

    ``own`` are those of the run's crawl, which are never left out in silence; ``crawled`` of all crawls, ``start`` and
    ``end`` as for `run_days`. What was extracted before is not extracted again.
    """
    params = context["params"]
    if not (params.get("from") or params.get("to")):
        return sorted({*own, *(day for day in crawled if start <= day <= end)})
    asked = run_days(context, start, end)
    found = sorted(set(asked) & set(crawled))
    if not found:
        raise ValueError(f"params: no crawl captured pages from {asked[0]} to {asked[-1]}; trigger again without them")
    return found
