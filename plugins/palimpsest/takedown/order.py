"""A takedown from order to receipt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from palimpsest.catalog import Catalog
from palimpsest.config import ConfigError, load_study
from palimpsest.generate.generations import most_attempts
from palimpsest.generate.leases import Leases
from palimpsest.generate.plan import again, planned_requests
from palimpsest.generate.review import open_reviewer
from palimpsest.lake import Facts, Lake, LakeError, NotPublished
from palimpsest.takedown import erase, tombstones
from palimpsest.takedown.find import Identity, Plan, copies_of, document_id, find, identify, kind_of, resolve, versions


@dataclass(frozen=True)
class Done:
    """What was, or with a dry run would be, removed; ``rows`` of the ledger."""

    urls: list[str]
    plan: Plan
    rows: int = 0
    receipt: str = ""
    """URI; empty where there was nothing to do, or nothing was to be done."""


def take_down(
    lake: Lake,
    catalog: Catalog,
    name: str,
    *,
    reason: str,
    copies: bool = False,
    models: bool = False,
    dry_run: bool = False,
) -> Done:
    """Remove the page ``name`` (an address, or an id of it) and what was made of it, and let nothing bring it back.

    ``copies``: also the pages that deduplication took for the same text. ``models``: also the models trained on it,
    and what was measured of them. Raises `LakeError` for a page that nothing in the lake is of, and without a reason
    unless it is a ``dry_run``.
    """
    if not dry_run and len(reason.strip()) < 3:
        raise LakeError(f"{name}: say in a few words why it is taken down (--reason): whoever misses the page will ask")
    urls = {resolve(lake, name)}
    while copies and (more := copies_of(lake, urls)):
        urls |= more
    standing = tombstones.standing(lake)
    plan = find(lake, identify(lake, urls))
    if plan.is_empty and not plan.left and not urls & standing.keys():
        raise LakeError(
            f"{name}: nothing in lake {lake.root} is of this page; give its address exactly as it was crawled, or the "
            "page_id, document_id or generation_id"
        )
    if models:
        plan.removed, plan.trained = plan.trained[::-1] + plan.removed, []
    _name_attempts(lake, plan)
    if dry_run:
        return Done(sorted(urls), plan)
    if new := urls - standing.keys():
        tombstones.put(lake, sorted(new), reason.strip(), plan.as_dict())
    return _carry_out(lake, catalog, urls, plan)


def sweep(lake: Lake, catalog: Catalog) -> Done:
    """All pages that were ever taken down, once more: what was interrupted, and what came back since."""
    urls = set(tombstones.standing(lake))
    plan = find(lake, identify(lake, urls)) if urls else Plan()
    _name_attempts(lake, plan)
    return _carry_out(lake, catalog, urls, plan)


def _carry_out(lake: Lake, catalog: Catalog, urls: set[str], plan: Plan) -> Done:
    open_orders = [order for order in tombstones.orders(lake, unfinished=True) if urls & set(order.extra["urls"])]
    for order in open_orders:  # what an interrupted one had found, and may have removed already
        told = tombstones.details(order)
        plan.add(Plan(**told))
        urls = urls | set(order.extra["urls"])
    who = Identity(set(urls), {*plan.ids, *map(document_id, urls)}, set(plan.keys))
    rows = _forget(lake, catalog, who)
    if plan.is_empty and not rows and not open_orders:
        return Done(sorted(urls), plan)
    for version in plan.removed:
        erase.remove(lake, version["uri"])
    for version in plan.rewritten:
        with contextlib.suppress(NotPublished):  # deleted by somebody since it was found
            erase.rewrite(lake, lake.open(version["uri"]), who)
    _renew_receipts(lake)
    with contextlib.closing(catalog):
        catalog.ready()
        catalog.sync(lake)
        catalog.forget_failures([row["key"] for row in catalog.failed_requests() if row["url"] in urls])
    orders = open_orders or [order for order in tombstones.orders(lake) if urls & set(order.extra["urls"])]
    receipt = tombstones.close(lake, orders, {**plan.as_dict(), "ledger_rows": rows})
    return Done(sorted(urls), plan, rows, receipt.uri)


def _forget(lake: Lake, catalog: Catalog, who: Identity) -> int:
    if not who.keys:
        return 0
    catalog.ready()
    with Leases(catalog, lake) as leases:
        if not leases.take({"compact"}):
            raise ConnectionError("another process is merging the ledger's segments; nothing was removed, try again")
        return erase.forget(lake, who.keys)


def _name_attempts(lake: Lake, plan: Plan) -> None:
    """Add the keys of what was asked again: the plan of a study has only those of what it asked first."""
    known, removed = set(plan.keys), {version["uri"] for version in plan.removed}
    for version in versions(lake) if known else ():
        if kind_of(version.dataset) != "plan" or version.uri not in removed:
            continue
        name = version.dataset.split("/")[1]
        try:
            study = load_study(name)
            repeated = {one: most_attempts(open_reviewer(study, one)) for one in study.strategies}
            if not any(repeated.values()):
                continue
            split = lake.open(version.manifest["parents"][0]["uri"])
            for request in planned_requests(study, lake, split=split, plan=version, keys=known):
                attempts = range(1, repeated[request.strategy] + 1)
                plan.keys += [again(study, request, attempt).key for attempt in attempts]
        except (ConfigError, LakeError) as error:
            plan.left.append(f"answers that {version.uri} asked for again, if any: their keys are lost ({error})")


def _renew_receipts(lake: Lake) -> None:
    """The lists of fetched files name each file's digest, which has changed for those rewritten."""
    for version in list(versions(lake)):
        if kind_of(version.dataset) != "fetched":
            continue
        listed = json.loads(version.file("files.json").read_text(encoding="utf-8"))
        captures = [lake.open(one["uri"]) for one in listed]
        renewed = [one | {"digest": now.digest} for one, now in zip(listed, captures, strict=True)]
        if renewed == listed:
            continue

        def write(directory: Path, renewed: Collection[dict] = renewed) -> Facts:
            (directory / "files.json").write_text(json.dumps(renewed, indent=1) + "\n")
            return Facts(extra=version.extra)  # noqa: B023 - called before the next version

        lake.publish(version.dataset, write, config=version.manifest["config"], parents=captures)
        erase.remove(lake, version.uri)
