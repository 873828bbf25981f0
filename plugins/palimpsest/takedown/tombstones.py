"""``takedowns``: the pages that were taken down, and what was removed of each.

Every version is one event: an *order*, published before anything is touched, with all that is to be done; a *receipt*,
published when all of it is done. An order without a receipt was interrupted, and is gone on from.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palimpsest.ingest.records import without_user
from palimpsest.lake import Facts, Lake, Published

DATASET = "takedowns"
CAUSE = "taken_down"
"""Under which extraction counts the page's records."""


@dataclass(frozen=True)
class Tombstone:
    """One address that no dataset may hold."""

    url: str
    reason: str
    at: str
    order: str
    """URI of the order."""


def standing(lake: Lake) -> dict[str, Tombstone]:
    """Every page that was taken down, by its address; of two orders the first."""
    found: dict[str, Tombstone] = {}
    for order in _events(lake, "ordered"):
        for url in order.extra["urls"]:
            found.setdefault(without_user(url), Tombstone(url, order.extra["reason"], order.extra["at"], order.uri))
    return found


def put(lake: Lake, urls: Sequence[str], reason: str, plan: Mapping[str, object]) -> Published:
    """The order to take pages down; from here on nothing extracts them."""
    return _publish(lake, {"event": "ordered", "urls": sorted(urls), "reason": reason}, plan, [])


def close(lake: Lake, orders: Sequence[Published], done: Mapping[str, object]) -> Published:
    """The receipt: what was removed for these orders."""
    urls = sorted({url for order in orders for url in order.extra["urls"]})
    return _publish(lake, {"event": "removed", "urls": urls}, done, orders)


def orders(lake: Lake, unfinished: bool = False) -> list[Published]:
    """All orders, the oldest first, or those without a receipt."""
    closed = {parent["uri"] for receipt in _events(lake, "removed") for parent in receipt.manifest["parents"]}
    return [order for order in _events(lake, "ordered") if not (unfinished and order.uri in closed)]


def details(event: Published) -> dict[str, object]:
    """What an order or receipt lists."""
    return json.loads(event.file("takedown.json").read_text(encoding="utf-8"))


def _events(lake: Lake, kind: str) -> list[Published]:
    found = [version for version in lake.versions(DATASET) if version.extra["event"] == kind]
    return sorted(found, key=lambda version: version.extra["at"])


def _publish(
    lake: Lake, event: Mapping[str, object], listed: Mapping[str, object], parents: Sequence[Published]
) -> Published:
    told = {**event, "at": dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")}

    def write(directory: Path) -> Facts:
        (directory / "takedown.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
        return Facts(extra=told)

    return lake.publish(DATASET, write, config=told, parents=parents)
