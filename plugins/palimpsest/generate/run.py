"""Running a plan: each shard generates what the ledger lacks, and keeps it within a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from palimpsest.catalog import Catalog
from palimpsest.config import Study
from palimpsest.generate.attempt import HEARTBEAT_S
from palimpsest.generate.leases import Leases
from palimpsest.generate.progress import Progress
from palimpsest.generate.worker import Worker
from palimpsest.lake import Lake, Published

log = logging.getLogger(__name__)


def generate_shard(
    study: Study,
    lake: Lake,
    *,
    split: Published,
    plan: Published,
    shard: int,
    replay: bool = False,
    progress: Callable[[Progress], None] | None = None,
    began: float | None = None,
) -> dict[str, object]:
    """Generate what the ledger lacks of one shard; counts of what was asked, made and refused, by cause.

    ``replay`` asks once more what had failed for good. ``progress`` is told every few seconds; without it a line is
    logged. ``engines`` has, per engine, its requests and where its seconds went (wall = paid + idle, paid = useful +
    repaid + failed); the catalog has the same per attempt. Raises `LeaseLost` if another worker took over, and
    ConnectionError if a server, the catalog or the lake stayed away; what was finished is stored then. ``began`` is
    when the work began: a server that somebody stopped since is not started again (`palimpsest.serve.ensure`).
    """
    started = time.perf_counter()
    catalog = Catalog.from_env()
    try:
        catalog.ready()
        catalog.close_dead(study.name, shard, 3 * HEARTBEAT_S)
        with Leases(catalog, lake) as leases:
            worker = Worker(
                study,
                lake,
                split=split,
                plan=plan,
                shard=shard,
                replay=replay,
                catalog=catalog,
                leases=leases,
                progress=progress,
                began=began,
            )
            for model in worker.lanes:
                worker.generate(model)
            worker.tidy()
            worker.reporter.report(worker.reporter.progress(worker.past))
        catalog.record_failures(worker.unlisted_failures(), tried=False)
    finally:
        catalog.close()
    asked, causes = len(worker.asked), dict(worker.causes)
    log.info("shard %d: %d asked, %d made, not made: %s", shard, asked, worker.made, causes or "none")
    return {
        "shard": shard,
        "asked": asked,
        "made": worker.made,
        "not_made": causes,
        "seconds": round(time.perf_counter() - started, 3),
        "engines": {name: dict(spent) for name, spent in worker.spent.items()},
    }
