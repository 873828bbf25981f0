"""The search for the best point of a mix, as a pure function of the losses so far.

Coordinate descent with a neighbour certificate (megadocs paper, section 4 of the digest): the centre and both its
neighbours on every axis are run; the centre moves to the best of them; it ends where the centre wins. 'grid' runs
every combination. What is to be run, in which wave, and what it came to follow from the losses alone, so a search that
was cut off goes on where it was.

Of equal losses the cheaper point wins (fewer steps), then the one whose values come first on the axes. A run that
diverged has an infinite loss; of two such, the one with the lower learning rate is taken to be nearer to a good one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from palimpsest.config import Search
from training.points import Point

Axes = Sequence[str]
Losses = Mapping[Point, float]
"""Of every point that has run; infinite or NaN where it diverged."""


@dataclass(frozen=True)
class Walk:
    """A search as far as the losses tell it."""

    waves: tuple[tuple[Point, ...], ...]
    """Points that were new in each round, in the order asked for."""
    missing: tuple[Point, ...]
    """Those of the last round that have no loss yet; none when the search has ended."""
    best: Point | None
    """Of all points that have run."""
    ended: str | None
    """'certificate' (no neighbour is better), 'budget' (`Search.most`), 'waves' (``max_waves``), or 'diverged' (no
    point of the last box is finite); None while points are missing."""

    def wave(self, point: Point) -> int:
        """The round, from 1, in which the point was asked for."""
        return next(number for number, wave in enumerate(self.waves, 1) if point in wave)


def next_points(search: Search, axes: Axes, start: Point, losses: Losses) -> list[Point]:
    """The points still to be run now, in one wave; none when the search has ended."""
    return list(walk(search, axes, start, losses).missing)


def walk(search: Search, axes: Axes, start: Point, losses: Losses) -> Walk:
    """The whole search from its start, as far as there are losses."""
    centre, waves, seen = start, [], []
    while True:
        box = _combinations(search, axes, start) if search.method == "grid" else _box(search, axes, centre)
        new = [point for point in box if point not in seen]
        taken = new if search.most is None else new[: search.most - len(seen)]
        if taken and len(waves) == search.max_waves:
            return _ended(waves, seen, losses, "waves")
        if taken:
            waves.append(tuple(taken))
            seen += taken
        missing = tuple(point for point in taken if point not in losses)
        if missing:
            return Walk(tuple(waves), missing, _best(seen, losses), None)
        if len(taken) < len(new):
            return _ended(waves, seen, losses, "budget")
        best = _best(box, losses)
        if search.method == "grid" or best == centre:
            return _ended(waves, seen, losses, "certificate")
        centre = best


def certificate(search: Search, axes: Axes, start: Point, losses: Losses) -> dict:
    """Why the best point is the best: a JSON-able dict of it, its neighbours and their losses.

    ``ended`` as in `Walk`; ``certified``: every neighbour has run and none is better. ``edges`` names the axes at whose
    end the best lies ('low' or 'high'): it may lie beyond. ``margin``: what the nearest neighbour loses, in nats.
    """
    found = walk(search, axes, start, losses)
    centre = found.best
    near = [] if centre is None else list(_neighbours(search, axes, centre))
    known = [losses[point] for _, point in near if point in losses]
    return {
        "start": start._asdict(),
        "centre": centre._asdict() if centre else None,
        "loss": _told(losses, centre),
        "neighbours": [
            {
                "axis": axis,
                "point": point._asdict(),
                "loss": _told(losses, point),
                "state": "not run" if point not in losses else "ran" if math.isfinite(losses[point]) else "diverged",
            }
            for axis, point in near
        ],
        "missing": len(near) - len(known),
        "ended": found.ended,
        "certified": found.ended is not None and math.isfinite(losses[centre]) and len(known) == len(near),
        "edges": _edges(search, axes, centre) if centre else {},
        "margin": min((loss - losses[centre] for loss in known if math.isfinite(loss)), default=None),
        "runs": sum(len(wave) for wave in found.waves),
        "waves": len(found.waves),
    }


def rank(point: Point, losses: Losses) -> tuple:
    """Sorts points from the best to the worst; no two are alike."""
    steps = round(point.epochs / point.real_share, 9)
    loss = losses[point]
    return (loss, steps, point) if math.isfinite(loss) else (math.inf, point.lr, steps, point)


def _ended(waves: list, seen: list[Point], losses: Losses, ended: str) -> Walk:
    best = _best(seen, losses)
    return Walk(tuple(waves), (), best, ended if math.isfinite(losses[best]) else "diverged")


def _best(points: Sequence[Point], losses: Losses) -> Point | None:
    return min((p for p in points if p in losses), key=lambda point: rank(point, losses), default=None)


def _box(search: Search, axes: Axes, centre: Point) -> list[Point]:
    return [centre, *(point for _, point in _neighbours(search, axes, centre))]


def _neighbours(search: Search, axes: Axes, centre: Point) -> Iterator[tuple[str, Point]]:
    """One step down and one up on every axis."""
    for axis in axes:
        values = getattr(search, axis)
        place = values.index(getattr(centre, axis))
        for near in (place - 1, place + 1):
            if 0 <= near < len(values):
                yield axis, centre._replace(**{axis: values[near]})


def _combinations(search: Search, axes: Axes, start: Point) -> list[Point]:
    """The whole grid, the start first."""
    values = itertools.product(*(getattr(search, axis) for axis in axes))
    return sorted((start._replace(**dict(zip(axes, found, strict=True))) for found in values), key=lambda p: p != start)


def _edges(search: Search, axes: Axes, point: Point) -> dict[str, str]:
    found = {}
    for axis in axes:
        values = getattr(search, axis)
        if len(values) > 1 and getattr(point, axis) in (values[0], values[-1]):
            found[axis] = "low" if getattr(point, axis) == values[0] else "high"
    return found


def _told(losses: Losses, point: Point | None) -> float | None:
    return losses[point] if point in losses and math.isfinite(losses[point]) else None
