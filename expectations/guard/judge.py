"""Every verdict of the guard on one version of a study's data, with what the study and a person made of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import duckdb
import pandas as pd

from expectations.guard import lineage, real, shares
from expectations.guard.ladder import with_responses
from expectations.guard.waivers import Waived, covering
from palimpsest.config import Study
from palimpsest.guard.verdict import Verdict
from palimpsest.lake import Lake, Published

ORDER = ("failed", "warned", "not_judged", "passed")
LAST = 99
"""Trends (C2ST, MMD) come after the numbered gates."""
MUST = {"G1", "G2", "G3", "G4", "G5"}
"""What these ask is always known of data made here; the others measure texts, and there may be too few."""


def verdicts(
    connection: duckdb.DuckDBPyConnection,
    study: Study,
    lake: Lake,
    *,
    split: Published,
    mixes: Published,
    waived: Sequence[Waived] = (),
    measured: Sequence[Verdict] = (),
) -> list[Verdict]:
    """G1 to G6 on what the views of ``connection`` hold, and what was ``measured`` on the texts; the worst first."""
    limits = study.guard.thresholds
    found = [
        *lineage.provenance(connection, limits),
        *lineage.acyclic(connection, lake, mixes),
        *shares.real_text(connection, study, lake),
        *real.append_only(study, lake, split),
        *shares.drawn_apart(connection, study),
        *lineage.depth(connection, limits),
        *lineage.generators(connection, lake),
        *lineage.decoding(connection, study, limits),
        *measured,
    ]
    return sort(with_responses(as_answered(found, study, waived)))


def as_answered(found: Iterable[Verdict], study: Study, waived: Sequence[Waived]) -> list[Verdict]:
    """The verdicts with the study's severities, and those that somebody answers for as warnings that say so."""
    answered = []
    for verdict in found:
        severity = study.guard.severity.get(verdict.gate) if is_waivable(verdict) else None
        if severity == "off":
            said = f"switched off in this study: {verdict.sentence}"
            verdict = replace(verdict, outcome="not_judged", severity="warning", sentence=said)
        elif severity and verdict.outcome in ("failed", "warned"):
            verdict = replace(verdict, severity=severity, outcome="failed" if severity == "critical" else "warned")
        elif severity == "warning":
            verdict = replace(verdict, severity=severity)
        if blocks(verdict) and is_waivable(verdict) and (waiver := covering(verdict, waived)):
            said = f"{verdict.sentence}; waived by {waiver.by} until {waiver.until}: {waiver.why}"
            told = {"waived_by": waiver.by, "waived_until": str(waiver.until), "why": waiver.why}
            verdict = _said_only(verdict, said, told)
        if blocks(verdict) and study.guard.experiment and verdict.gate != "G1":
            said = f"{verdict.sentence}; it stops nothing, for collapse is what this study is about"
            verdict = replace(_said_only(verdict, said, {"experiment": True}), severity="warning")
        answered.append(verdict)
    return answered


def _said_only(verdict: Verdict, said: str, told: Mapping[str, object]) -> Verdict:
    """A breach that stops nothing: warned of, or, where there was no figure to judge by, still not judged."""
    details = {**verdict.details, **told}
    if verdict.value is None:
        return replace(verdict, severity="warning", sentence=said, details=details)
    return replace(verdict, outcome="warned", sentence=said, details=details)


def blocks(verdict: Verdict) -> bool:
    """Failed; or one of `MUST` that could not be judged, which is not taken for passed."""
    unknown = verdict.outcome == "not_judged" and verdict.severity == "critical" and verdict.gate in MUST
    return verdict.outcome == "failed" or unknown


def is_waivable(verdict: Verdict) -> bool:
    return verdict.gate != "G1" and bool(verdict.details.get("waivable", True))


def sort(found: Iterable[Verdict]) -> list[Verdict]:
    def place(verdict: Verdict) -> tuple:
        number = int(verdict.gate[1:]) if verdict.gate[1:].isdigit() else LAST
        return not blocks(verdict), ORDER.index(verdict.outcome), number

    return sorted(found, key=place)


def table(found: Sequence[Verdict]) -> pd.DataFrame:
    """What Great Expectations judges: a row per verdict."""
    return pd.DataFrame(
        {
            "subject": f"{v.gate} {v.measure} {v.subject}".rstrip(),
            "gate": v.gate,
            "measure": v.measure,
            "about": v.subject,
            "outcome": v.outcome,
            "sentence": v.sentence,
            "value": v.value,
            "limit": v.limit,
            "severity": v.severity,
            "blocks": int(blocks(v)),
            "warns": int(v.outcome == "warned"),
            "waived_by": v.details.get("waived_by"),
            "waived_until": v.details.get("waived_until"),
        }
        for v in found
    )


def today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
