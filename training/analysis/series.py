"""Which mixes differ in one number only: the series along an axis of the study.

Along a design axis every mix stands at its own settings, as the paper compares them; of several mixes in one place the
best counts, which is what tuning does. Along a setting everything else is equal.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean

from training.analysis.members import ALONG_WITH, AXES, SETTINGS, Member


@dataclass(frozen=True)
class Series:
    """Mixes along one axis, in its order."""

    axis: str
    name: str
    kind: str
    strategy: str | None
    writes: str | None
    rest: str
    """What all of them have in common, for comparison with another series."""
    members: Mapping[float, Member] = field(default_factory=dict)
    beaten: int = 0
    """Further mixes in the same places, whose loss was higher."""


def find_series(members: Sequence[Member]) -> list[Series]:
    """Every set of two mixes or more that differ along one axis only."""
    found = []
    for axis in (*AXES, *SETTINGS):
        groups: dict[tuple, dict[float, list[Member]]] = defaultdict(lambda: defaultdict(list))
        for member in members:
            text = (member.kind, member.strategy, member.writes)
            groups[*text, held_fast(member, axis)][value_on(member, axis)].append(member)
        for (*text, rest), places in groups.items():
            if len(places) < 2:
                continue
            best = {value: min(places[value], key=mean_loss) for value in sorted(places)}
            name = next(iter(best.values())).name(axis)
            beaten = sum(len(place) for place in places.values()) - len(best)
            found.append(Series(axis, name, *text, rest, best, beaten))
    return told_apart(found)


def told_apart(lines: Sequence[Series]) -> list[Series]:
    """The same with no two names alike along an axis.

    Those of another G say which. Of those at other settings the longest keeps its name, and the others say the settings
    that the study file fixes, or that theirs were found by a search.
    """
    return [replace(line, name=", ".join([line.name, *_apart(line, _alike(line, lines))])) for line in lines]


def _alike(line: Series, lines: Sequence[Series]) -> list[Series]:
    return [other for other in lines if (other.axis, other.name) == (line.axis, line.name)]


def _apart(line: Series, others: Sequence[Series]) -> list[str]:
    def differs(key: str, among: Sequence[Series]) -> bool:
        return key != line.axis and len({value_on(_first(other), key) for other in among}) > 1

    first = _first(line)
    said = [f"G {first.design['generations']}"] if differs("generations", others) else []
    rivals = [other for other in others if not differs("generations", (line, other))]
    if line is max(rivals, key=lambda other: (len(other.members), _first(other).tuned)):
        return said
    if first.tuned:
        return [*said, "tuned"]
    return said + [f"{key.replace('_', ' ')} {first.settings[key]:g}" for key in SETTINGS if differs(key, rivals)]


def _first(line: Series) -> Member:
    return next(iter(line.members.values()))


def held_fast(member: Member, axis: str) -> str:
    """All that a series along this axis holds fast, canonical."""
    own = dict(member.design)
    if axis in SETTINGS or not member.tuned:
        own |= member.settings
    for key in (axis, *ALONG_WITH.get(axis, ())):
        own.pop(key)
    return json.dumps(own, sort_keys=True)


def value_on(member: Member, axis: str) -> float:
    return member.design[axis] if axis in AXES else member.settings[axis]


def mean_loss(member: Member) -> tuple[float, str]:
    return (fmean(member.losses.get("iid", {}).values() or [math.inf]), member.mix)


def as_rows(series: Sequence[Series]) -> list[dict]:
    """JSON-able: axis, name, values and mixes."""
    return [
        {**{k: v for k, v in asdict(line).items() if k in ("axis", "name", "kind", "strategy", "beaten")},
         "values": list(line.members), "mixes": [member.mix for member in line.members.values()]}
        for line in series
    ]  # fmt: skip
