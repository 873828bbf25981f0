"""Breaches that a person answers for: in the study file, or in the answer to a gate's question, kept in the lake."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from palimpsest.config import Study
from palimpsest.guard.verdict import Verdict
from palimpsest.lake import Facts, Lake, LakeError, Published

DAYS = 30
"""How long the answer to a gate's question holds, for the very data it was asked about."""
NAMES = ("recipe", "domain", "strategy", "corpus")
"""Details of a verdict that a waiver of a study file may name as its subject."""


@dataclass(frozen=True)
class Waived:
    """Who answers for what, why and until when."""

    gate: str
    subject: str | None
    measure: str | None
    by: str
    why: str
    until: dt.date
    uri: str | None = None
    """Where the lake keeps it; None for one of the study file."""

    def covers(self, verdict: Verdict) -> bool:
        """An answer covers the verdicts it was asked about; a study file names whose breaches, wherever they are."""
        subjects = {None, verdict.subject}
        if self.uri is None:
            subjects |= {verdict.details.get(name) for name in NAMES}
        return self.gate == verdict.gate and self.measure in (None, verdict.measure) and self.subject in subjects


def covering(verdict: Verdict, waived: Sequence[Waived]) -> Waived | None:
    return next((waiver for waiver in waived if waiver.covers(verdict)), None)


def in_force(study: Study, lake: Lake, data: Sequence[Published], today: dt.date) -> list[Waived]:
    """The waivers that hold today: those of the study file, and those given for this very data."""
    found = [Waived(w.gate, w.subject, None, w.by, w.why, w.until) for w in study.guard.waivers]
    digests = {published.digest for published in data}
    for published in lake.versions(f"studies/{study.name}/waivers"):
        told = published.extra
        if set(told["data"]) != digests:
            continue
        until = dt.date.fromisoformat(told["until"])
        found += [
            Waived(c["gate"], c["subject"], c["measure"], told["by"], told["why"], until, published.uri)
            for c in told["covers"]
        ]
    return [waiver for waiver in found if waiver.until >= today]


def idle(study: Study, verdicts: Sequence[Verdict], today: dt.date) -> Iterator[str]:
    """Of each waiver of the study file that answers for nothing: its day is over, or nothing found is its matter."""
    found = [verdict for verdict in verdicts if verdict.outcome != "passed"]
    for written in study.guard.waivers:
        about = f"the waiver of {written.gate}{f' for {written.subject}' if written.subject else ''} by {written.by}"
        waiver = Waived(written.gate, written.subject, None, written.by, written.why, written.until)
        if written.until < today:
            yield f"{about} held until {written.until}; it covers nothing any more ({study.path})"
        elif not any(waiver.covers(verdict) for verdict in found):
            yield f"{about} covers nothing that was found here ({study.path})"


def record(
    study: Study,
    lake: Lake,
    *,
    data: Sequence[Published],
    covers: Sequence[Mapping[str, object]],
    by: str,
    why: str,
    at: str,
    report: str = "",
) -> Published:
    """``studies/<s>/waivers``: who answered for which verdicts on which data, when and why; also waiver.json.

    ``report`` is what the probes had found: it was before whoever signed.

    Raises `LakeError` for an answer without a reason, or one about what cannot be waived.
    """
    if len(why.strip()) < 10:
        raise LakeError(
            f"study {study.name}: a waiver needs its reason in a sentence, this one says '{why}'; trigger the Dag "
            "again and write why under *Required Actions*"
        )
    fixed = [c for c in covers if not c.get("waivable", True)]
    if fixed or not covers:
        raise LakeError(f"study {study.name}: nobody can waive {fixed[0]['sentence'] if fixed else 'nothing'}")
    until = dt.date.fromisoformat(at[:10]) + dt.timedelta(days=DAYS)
    told = {
        "by": by,
        "why": why.strip(),
        "at": at,
        "until": until.isoformat(),
        "data": sorted(published.digest for published in data),
        "covers": [dict(c) for c in covers],
        "probes": report,
    }

    def write(directory: Path) -> Facts:
        (directory / "waiver.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        return Facts(extra=told)

    return lake.publish(f"studies/{study.name}/waivers", write, config=told, parents=list(data))


def as_rows(waived: Sequence[Waived]) -> list[dict[str, object]]:
    """For a manifest: what was in force when a gate judged."""
    return [{**asdict(waiver), "until": waiver.until.isoformat()} for waiver in waived]
