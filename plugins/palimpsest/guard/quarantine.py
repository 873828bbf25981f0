"""``guard/quarantine``: generators whose text lost too much of its variety, until somebody lifts it.

Where rare words (G8) or entropy (G9) stop a study, its gate puts the generator here. A later study that asks it waits
for a person. Every version is one event, so that two gates at once lose nothing; the list is all events in order.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published

DATASET = "guard/quarantine"
GATES = ("G8", "G9")
"""Whose breach puts a generator here (Shumailov et al. 2024, 2305.17493: what is rare goes first)."""


@dataclass(frozen=True)
class Entry:
    """A generator in quarantine, and what was found of it."""

    generator: str
    """The model as the ledger's keys name it."""
    study: str
    strategy: str
    decoding: str
    """How its text was drawn, as JSON."""
    why: str
    """The verdicts, in their own words."""
    since: str

    @property
    def sentence(self) -> str:
        drawn = json.loads(self.decoding) if self.decoding else {}
        how = ", ".join(f"{name} {drawn[name]:g}" for name in ("temperature", "top_p", "top_k") if drawn.get(name))
        return (
            f"generator {self.generator} is in quarantine since {self.since[:10]}, for strategy {self.strategy} of "
            f"study {self.study}{f' (at {how})' if how else ''}: {self.why}"
        )


def standing(lake: Lake) -> dict[str, Entry]:
    """The generators in quarantine now, by name."""
    found: dict[str, Entry] = {}
    for event in sorted((version.extra for version in lake.versions(DATASET)), key=lambda told: told["at"]):
        if event["event"] == "put":
            found[event["entry"]["generator"]] = Entry(**event["entry"])
        elif event["event"] == "lifted":
            found.pop(event["generator"], None)
    return found


def put(lake: Lake, entries: Iterable[Entry], parents: Iterable[Published] = ()) -> list[Entry]:
    """Puts generators on the list; returns those that were not on it for the same reason already."""
    known = standing(lake)
    new = [entry for entry in entries if _reason(known.get(entry.generator)) != _reason(entry)]
    for entry in new:
        _publish(lake, {"event": "put", "entry": asdict(entry), "generator": entry.generator}, tuple(parents))
    return new


def lift(lake: Lake, generator: str, *, by: str, why: str) -> Entry:
    """Takes a generator off the list. Raises `LakeError` for one that is not on it, or without a name and a reason."""
    found = standing(lake)
    if generator not in found:
        raise LakeError(f"{generator} is not in quarantine; there are: {', '.join(sorted(found)) or 'none'}")
    if len(by.strip()) < 2 or len(why.strip()) < 10:
        raise LakeError("to lift a quarantine say who you are (--by) and why, in a sentence (--why)")
    _publish(lake, {"event": "lifted", "generator": generator, "by": by.strip(), "why": why.strip()})
    return found[generator]


def approve(lake: Lake, generator: str, *, study: str, by: str) -> Published:
    """Keeps that a person let one run of a study ask a generator that stays in quarantine."""
    return _publish(lake, {"event": "approved", "generator": generator, "study": study, "by": by})


def history(lake: Lake) -> list[dict[str, object]]:
    """Every event, the newest first."""
    return sorted(
        (dict(version.extra) for version in lake.versions(DATASET)), key=lambda told: told["at"], reverse=True
    )


def asked(study: Study, models: Mapping[str, str], lake: Lake, today: dt.date) -> list[Entry]:
    """The quarantined generators that a study asks and nobody answers for; ``models``: by strategy, as in the ledger.

    A waiver of G8 or G9 in the study file answers for its strategy; where collapse is what the study is about, nobody
    has to.
    """
    found = standing(lake) if models else {}
    if study.guard.experiment:
        return []
    waived = [w for w in study.guard.waivers if w.gate in GATES and w.until >= today]
    asked = {
        model: found[model]
        for strategy, model in models.items()
        if model in found and not any(waiver.subject in (None, strategy) for waiver in waived)
    }
    return list(asked.values())


def _reason(entry: Entry | None) -> tuple | None:
    return entry and (entry.generator, entry.study, entry.strategy, entry.decoding, entry.why)


def _publish(lake: Lake, event: Mapping[str, object], parents: tuple[Published, ...] = ()) -> Published:
    told = {**event, "at": dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")}

    def write(directory: Path) -> Facts:
        (directory / "event.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        return Facts(extra=told)

    return lake.publish(DATASET, write, config=told, parents=list(parents))
