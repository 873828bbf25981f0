"""What the generations of a mix cost, as far as the platform measured it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import reduce
from operator import or_

import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest.catalog import Catalog
from palimpsest.catalog.speed import seconds_per_token
from palimpsest.config import Study
from palimpsest.lake import Lake, Published

COLUMNS = ("strategy", "g", "model", "tokens", "input_tokens", "output_tokens")


def generation_cost(study: Study, lake: Lake, layouts: Iterable[str], *, generations: Published | None = None) -> dict:
    """Of the first G generations per document that these layouts use: how many, their tokens, and engine seconds.

    ``generations`` (kept by the review), ``dropped``, ``input_tokens`` (samples of one prompt count it each) and
    ``output_tokens`` (the text's own where the engine does not count). ``engine_seconds``: these tokens, and as many
    for each generation that was dropped, at the seconds per token of their models in the throughput ledger, which
    has all that was paid, waste too; None where it knows nothing of one of them. Generations that another study has
    paid cost the same: it is what making them takes.
    """
    most = study.generations_in(layouts)
    if not most:
        return {"generations": 0, "dropped": 0, "input_tokens": 0, "output_tokens": 0, "engine_seconds": 0.0}
    published = generations or lake.latest(f"studies/{study.name}/generations")
    chosen = reduce(or_, ((pc.field("strategy") == name) & (pc.field("g") < g) for name, g in most.items()))
    rows = pq.read_table(published.file("generations.parquet"), columns=list(COLUMNS), filters=chosen)
    drops = pq.read_table(published.file("generation_drops.parquet"), columns=["strategy", "g"], filters=chosen)
    rows = rows.append_column("written", pc.coalesce(rows["output_tokens"], rows["tokens"]))
    with closing(Catalog.from_env()) as catalog:
        catalog.ready()
        usage = catalog.usage()
    seconds = 0.0
    for group in rows.group_by("model").aggregate([("written", "sum")]).to_pylist():
        rate = seconds_per_token([row for row in usage if row["model"] == group["model"]])
        seconds = None if seconds is None or rate is None else seconds + rate * group["written_sum"]
    made = len(rows) + len(drops)
    return {
        "generations": len(rows),
        "dropped": len(drops),
        "input_tokens": pc.sum(rows["input_tokens"]).as_py() or 0,
        "output_tokens": pc.sum(rows["written"]).as_py() or 0,
        "engine_seconds": seconds if not seconds else seconds * made / len(rows),
    }
