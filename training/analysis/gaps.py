"""What keeping a document's generations together is worth, and what single choices of the design do.

**Gap.** Loss of the simple layout minus that of the stitched or stretched one at the same place, over the seeds both
have: positive where the megadoc is better. *Whether it widens* is the slope of the gap on log2 of the axis, over the
seeds that all its places have. Gap, slope and the mean gap over all places are each a figure per seed, and each is
judged by its own scatter (`training.analysis.paired`): two mixes that scatter much widen no other gap, and a quiet one
lends them nothing. Beside each stands the half width over held-out documents (`training.analysis.sampling`), of the
same documents under all mixes of the gap.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np

from training.analysis.members import AXES, Member
from training.analysis.paired import detectable, half_width
from training.analysis.sampling import Documents, holds
from training.analysis.series import Series, find_series, held_fast, mean_loss, told_apart, value_on

ABLATIONS = {
    "real": "real document",
    "real_stream": "real stream",
    "mode": "settings",
    "attention": "attention",
    "loss_on": "loss on",
    "align": "choice of generated texts",
}
KINDS = ("simple", "stitched", "stretched")
NONE = Documents()


def find_gaps(
    members: Sequence[Member],
    sets: Sequence[str],
    documents: Documents = NONE,
) -> list[dict]:
    """Stitched and stretched against simple, by axis and held-out set.

    A stretched layout, whose texts are rationales, is held against the simple layouts of rephrases. ``points`` (axis
    value, the two mixes, gap, margin, seeds, whether their settings are the same), ``mean`` and ``slope`` with their
    margins, ``widens`` (yes, narrows, not resolved; one place only, no common seed: there is no slope),
    ``over_documents``: does the slope stand over held-out documents too?
    """
    lines = [series for series in find_series(members) if series.kind in KINDS]
    along = {(line.kind, line.strategy, line.rest) for line in lines if line.axis == "generations"}
    alone = [_single(member) for member in members if member.kind in KINDS]
    alone = [line for line in alone if (line.kind, line.strategy, line.rest) not in along]
    alone = told_apart([*lines, *alone])[len(lines) :]

    def among(lines: Sequence[Series], others: Sequence[Series]) -> list[dict]:
        pairs = [
            (series, simple)
            for series in lines
            for simple in others
            if series.kind != "simple" and simple.kind == "simple" and simple.axis == series.axis
        ]
        found = [(pair, name) for pair in pairs if _comparable(*pair) for name in sorted(sets)]
        return [gap for pair, name in found if (gap := _gap(*pair, name, documents))]

    found = among(lines, lines)
    told = {(point["mix"], point["against"]) for gap in found for point in gap["points"]}
    further = among(lines, alone) + among(alone, [*lines, *alone])
    return found + [gap for gap in further if {(p["mix"], p["against"]) for p in gap["points"]} - told]


def find_ablations(members: Sequence[Member], sets: Sequence[str], documents: Documents = NONE) -> list[dict]:
    """Pairs of mixes that differ in one thing that is no number: their difference in loss, second minus first.

    Of several mixes of one design, the two with the same settings are compared, else the best of each; so are those
    whose settings are what differs.
    """
    cells: dict[tuple, list[Member]] = defaultdict(list)
    for member in members:
        cells[member.kind, member.strategy or "", json.dumps(member.design, sort_keys=True)].append(member)
    found = []
    for one, other in combinations(cells.values(), 2):
        key = _single_difference(one[0], other[0])
        if key is None:
            continue
        alike = [(a, b) for a in one for b in other if a.settings == b.settings and key != "mode"]
        first, second = min(
            alike or [(min(one, key=mean_loss), min(other, key=mean_loss))], key=lambda pair: mean_loss(pair[1])
        )
        said = [str(m.strategy if key == "strategy" else m.design[key]) for m in (first, second)]
        facts = {"what": ABLATIONS.get(key, key.replace("_", " ")), "from": said[0], "to": said[1]}
        same = first.settings == second.settings
        facts |= {"first": first.mix, "second": second.mix, "same_settings": same}
        for name in sorted(sets):
            difference = compare(second, first, name, documents)
            if difference:
                found.append({**facts, "set": name, **difference})
    return found


def _single_difference(first: Member, second: Member) -> str | None:
    """The one thing that is no number in which two mixes differ; None if there is more to it, or a number."""
    if first.kind != second.kind:
        return None
    differing = {key for key in first.design if first.design[key] != second.design[key]}
    if first.strategy != second.strategy:
        differing.add("strategy")
    return differing.pop() if len(differing) == 1 and not differing & AXES.keys() else None


def _gap(series: Series, simple: Series, name: str, documents: Documents) -> dict | None:
    places = sorted(series.members.keys() & simple.members.keys())
    points = []
    for place in places:
        mega, plain = series.members[place], simple.members[place]
        found = compare(plain, mega, name, documents)
        if found:
            same = mega.settings == plain.settings
            facts = {"x": place, "mix": mega.mix, "against": plain.mix, "same_settings": same}
            points.append({**facts, "gap": found.pop("difference"), **found})
    if not points:
        return None
    gap = {"axis": series.axis, "layout": series.name, "against": simple.name, "set": name, "points": points}
    return gap | _mean(points, name, documents) | _slope(points, name, documents)


def _mean(points: Sequence[Mapping], name: str, documents: Documents) -> dict:
    """The gap over all places, by its scatter over the seeds that all of them have."""
    seeds = _common_seeds(points)
    if not seeds:
        return dict.fromkeys(("mean", "mean_margin", "mean_document_margin", "seeds_above_0")) | {"seeds": 0}
    means = [fmean(point["by_seed"][seed] for point in points) for seed in seeds]
    above = sum(value > 0 for value in means)
    over = _over(points, [1 / len(points)] * len(points), name, documents, seeds)
    found = {"mean": fmean(means), "mean_margin": half_width(means), "mean_document_margin": over}
    return found | {"seeds_above_0": above, "seeds": len(means)}


def _slope(points: Sequence[Mapping], name: str, documents: Documents) -> dict:
    """Nats by which the gap grows with each doubling of the axis, over the seeds that all places have."""
    points = [point for point in points if point["x"] > 0]
    unknown = dict.fromkeys(("slope", "slope_margin", "slope_document_margin", "over_documents"))
    if len(points) < 2:
        return unknown | {"widens": "one place only"}
    if not (seeds := _common_seeds(points)):
        return unknown | {"widens": "no common seed"}
    x = np.log2([point["x"] for point in points])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slopes = [float(weights @ np.array([point["by_seed"][seed] for point in points])) for seed in seeds]
    slope, margin = fmean(slopes), half_width(slopes)
    over = _over(points, weights, name, documents, seeds)
    found = {"slope": slope, "slope_margin": margin, "slope_document_margin": over}
    found["over_documents"] = holds(slope, over)
    if margin is None or abs(slope) <= margin:
        return found | {"widens": "not resolved"}
    return found | {"widens": "yes" if slope > 0 else "narrows"}


def _over(
    points: Sequence[Mapping], weights: Sequence[float], name: str, documents: Documents, seeds: Sequence[str]
) -> float | None:
    """Half width over documents of the weighted sum of gaps over these seeds."""
    numbers = [int(seed) for seed in seeds]
    found = [documents.influence(point["against"], point["mix"], name, numbers) for point in points]
    if any(influence is None for influence in found):
        return None
    return documents.margin(np.asarray(weights) @ np.array(found), name)


def compare(first: Member, second: Member, name: str, documents: Documents) -> dict | None:
    """Loss of the first minus that of the second over their common seeds; None without one."""
    ours, theirs = (m.losses.get(name, {}) for m in (first, second))
    seeds = sorted(s for s in ours.keys() & theirs.keys() if math.isfinite(ours[s]) and math.isfinite(theirs[s]))
    if not seeds:
        return None
    by_seed = {str(seed): ours[seed] - theirs[seed] for seed in seeds}
    over = documents.margin(documents.influence(first.mix, second.mix, name, seeds), name)
    found = {"difference": fmean(by_seed.values()), "margin": half_width(by_seed.values())}
    found |= {"detectable": detectable(by_seed.values()), "document_margin": over}
    return found | {"seeds": len(seeds), "by_seed": by_seed}


def _common_seeds(points: Sequence[Mapping]) -> list[str]:
    return sorted(set.intersection(*(set(point["by_seed"]) for point in points)))


def _comparable(series: Series, simple: Series) -> bool:
    if series.strategy != simple.strategy and not (series.kind == "stretched" and simple.writes == "rephrase"):
        return False
    ours, plain = json.loads(series.rest), json.loads(simple.rest)
    ours["real"], plain["real"] = (rest.get("real") == "none" for rest in (ours, plain))
    if ours["mode"] != plain["mode"] and plain["mode"] == "own":
        ours["mode"] = "own"
    return ours == plain


def _single(member: Member) -> Series:
    """A mix by itself, at its G."""
    rest, place = held_fast(member, "generations"), value_on(member, "generations")
    text = (member.kind, member.strategy, member.writes)
    return Series("generations", member.name("generations"), *text, rest, {place: member})
