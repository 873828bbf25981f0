"""A corpus' funnel: for each day how many records became documents, and why the others did not."""

from __future__ import annotations

from collections import Counter
from html import escape

from palimpsest.funnel import Funnel, funnels, together
from palimpsest.lake import Lake, NotPublished
from palimpsest_airflow.ui.html import document, figures, number, percent

HEADER = ("day", "records", "quarantined", "dropped", "documents", "words", "tokens, about", "of the words of pages")


def funnel_page(lake: Lake, corpus: str) -> str:
    title = f"Funnel: {corpus}"
    try:
        days = funnels(lake.latest(f"corpora/{corpus}/documents"))
    except NotPublished:
        days = {}
    if not days:
        return document(
            title,
            f"<h1>{escape(title)}</h1><p>Task documents has not made this corpus' documents yet, or an earlier version "
            "of the platform has: run it.</p>",
        )
    total = together(days)
    body = [
        f"<h1>{escape(title)}</h1>",
        "<p class=quiet>Of all days together as they stand now: a later day may supersede or duplicate pages.</p>",
        figures(HEADER, [_row(str(day), of) for day, of in reversed(days.items())], _row("all", total)),
        "<h2>Dropped, by reason</h2>",
        _reasons(total.dropped, total.records, {str(day): of.dropped for day, of in days.items()}),
        "<h2>Quarantined, by cause</h2>",
        _reasons(total.quarantined, total.records, {str(day): of.quarantined for day, of in days.items()}),
    ]
    return document(title, "\n".join(body), wide=True)


def _row(name: str, of: Funnel) -> tuple[str, ...]:
    counts = (of.records, of.quarantined.total(), of.dropped.total(), of.documents, of.words, of.tokens)
    pages = of.words + of.lost_words
    return name, *map(number, counts), percent(of.words / pages if pages else None)


def _reasons(counts: Counter[str], records: int, days: dict[str, Counter[str]]) -> str:
    """A row per reason, with the day that has most of it."""
    if not counts:
        return "<p class=quiet>None.</p>"
    rows = []
    for reason, count in counts.most_common():
        most = max(days, key=lambda day: days[day][reason])
        rows.append((escape(reason), number(count), percent(count / records), f"{most} ({days[most][reason]:,})"))
    return figures(("reason", "pages", "of the records", "most on"), rows)
