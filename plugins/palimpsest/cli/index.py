"""Commands that look things up: datasets, lineage, everything made of a page."""

from __future__ import annotations

import json
import sys

from palimpsest.cli.summary import summary
from palimpsest.lake import Lake


def register(add) -> None:
    add("datasets", _datasets, "every dataset's latest version: rows, bytes, path")
    add("trace", _trace, "everything made of a page: document, generations, megadocs, mixes", "url")
    add("lineage", _lineage, "what a dataset version was made from, and what was made of it", "uri")
    add("sync", _sync, "rebuild the catalog from the lake's manifests")


def _datasets(options) -> None:
    lake = Lake.from_env()
    found = lake.all_latest()
    if not found:
        print(f"nothing is published in {lake.root} yet", file=sys.stderr)
    for published in found:
        print(f"{summary(published)}  {lake.base}/{published.uri}")


def _trace(options) -> None:
    from palimpsest.catalog import trace_url

    print(json.dumps(trace_url(Lake.from_env(), options.url), indent=2, default=str))


def _lineage(options) -> None:
    from palimpsest.catalog import Catalog

    lake, catalog = Lake.from_env(), Catalog.from_env()
    published = lake.open(options.uri.removeprefix(f"{lake.base}/").rstrip("/"))
    catalog.migrate()
    catalog.sync(lake)
    print(f"{published.uri}  [{published.digest[:12]}]")
    for title, found in (
        ("made from", catalog.lineage_up(published.uri)),
        ("made of it", catalog.lineage_down(published.uri)),
    ):
        print(f"{title}:" if found else f"{title}: nothing")
        for relative in found:
            gone = "" if relative.dataset else "  no longer in the lake"
            print(f"  {relative.distance}  {relative.uri}  [{relative.digest[:12]}]{gone}")


def _sync(options) -> None:
    from palimpsest.catalog import Catalog

    catalog = Catalog.from_env()
    catalog.migrate()
    print(f"{catalog.sync(Lake.from_env())} dataset versions in the catalog")
