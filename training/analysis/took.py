"""How long a study took: its runs and search points, its judging, and the time from the first of them to the last.

Of the very versions that the report was made of, wherever and whenever they were made; nothing here is the time of the
Dag run that made the report, which finds most of them in the lake.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from palimpsest.lake import Published

JUDGED = ("ensembles", "contexts", "tasks")
POINTS = ("runs", "diverged")


def took(published: Published, table: Mapping, judging: Mapping[str, float]) -> dict[str, str]:
    """Facts by name, for a report and its table; ``judging`` has the seconds by version (`training.judge.seconds`).

    The span ends when the last version was published, and begins as many seconds of training as the first one took
    before that was. Points that diverged have no seconds on record: they count in the span alone.
    """
    made = _parents(published, "runs", *JUDGED)
    points = [point for search in _parents(published, "search") for point in _parents(search, *POINTS)]
    found = {version.uri: version for version in (*made, *points)}.values()
    by_kind = {kind: [version for version in found if _kind(version) == kind] for kind in (*POINTS, *JUDGED)}
    compared = {run["run"]: run["seconds"] for run in table["runs"]}
    trained = {run.uri: compared.get(_name(run), run.extra.get("seconds", 0.0)) for run in by_kind["runs"]}
    judged = [version.uri for kind in JUDGED for version in by_kind[kind]]
    facts = {"Runs and search points": _counted(len(trained), len(compared), len(by_kind["diverged"]))}
    facts["Training, all of these together"] = f"{duration(sum(trained.values()))} (their steps alone)"
    if judged:
        known = [judging[uri] for uri in judged if uri in judging]
        text = duration(sum(known)) if known else "not recorded"
        missing = (
            f", without {len(judged) - len(known)} of which it is not recorded" if len(known) < len(judged) else ""
        )
        facts["Judging (ensembles, loss by context, tasks)"] = text + f" for {len(judged)}" + missing * bool(known)
    ends = {version.uri: version.lake.published_at(version) for version in found}
    if ends:
        first = min(end - dt.timedelta(seconds=trained.get(uri, 0.0)) for uri, end in ends.items())
        last = max(ends.values())
        span = f"{duration((last - first).total_seconds())} ({first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC)"
        facts["From the first of these to the last"] = span
    return facts


def duration(seconds: float) -> str:
    """In words: 3 min 20 s, 2 h 5 min."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def _counted(runs: int, compared: int, diverged: int) -> str:
    further = f", and {diverged} that diverged" if diverged else ""
    return (
        f"{runs}, of which {compared} are compared{further}" if runs > compared or diverged else f"{runs}, all compared"
    )


def _parents(published: Published, *kinds: str) -> list[Published]:
    """Those of ``studies/<study>/<kind>``, as the manifest names them."""
    found = [parent for parent in published.manifest["parents"] if parent["dataset"].split("/")[2] in kinds]
    return [published.lake.open(parent["uri"], parent["digest"]) for parent in found]


def _kind(published: Published) -> str:
    return published.dataset.split("/")[2]


def _name(published: Published) -> str:
    return published.dataset.rsplit("/", 1)[1]
