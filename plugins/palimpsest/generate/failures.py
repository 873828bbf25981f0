"""The requests of a study's plan that failed for good, whichever study asked for them first."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pyarrow.parquet as pq

from palimpsest.catalog import Catalog
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.standing import Standing
from palimpsest.lake import Published


def failures(planned: Published, catalog: Catalog) -> list[dict[str, Any]]:
    """One row per failed key of the plan, the newest first: key, strategy, g, part, url, cause, detail, tries.

    What failed the ledger says; the catalog, which may be another or newer than the ledger, knows how often it was
    tried (else ``tries`` is None), under the study that asked first.
    """
    ledger = Ledger(planned.lake)
    keys = pq.read_table(planned.file("requests.parquet"), columns=["key"])["key"]
    standing = Standing(ledger.segments, keys.to_pylist())
    standing.update()
    failed = standing.failed()
    with closing(catalog):
        catalog.ready()
        listed = [row for row in catalog.failed_requests() if row["key"] in failed]
    return listed + _unlisted(planned, ledger, failed - {row["key"] for row in listed})


def _unlisted(planned: Published, ledger: Ledger, keys: set[str]) -> list[dict[str, Any]]:
    if not keys:
        return []
    names = ["key", "strategy", "g", "part", "url"]
    table = pq.read_table(planned.file("requests.parquet"), columns=names, filters=[("key", "in", keys)])
    asked = {row["key"]: row for row in table.to_pylist()}
    causes = ledger.read(keys, ["key", "cause", "detail"]).to_pylist()
    return [asked[row["key"]] | row | {"tries": None} for row in causes]
