"""What the generations of a mix and its runs cost, as far as the platform measured it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
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
    paid cost the same: it is what making them takes. ``gpu_seconds`` are these on the GPUs of the study's servers,
    which are busy side by side: recorded and augmented text takes none here, whatever it took elsewhere.
    """
    most = study.generations_in(layouts)
    if not most:
        nothing = dict.fromkeys(("generations", "dropped", "input_tokens", "output_tokens"), 0)
        return nothing | {"engine_seconds": 0.0, "gpu_seconds": 0.0}
    published = generations or lake.latest(f"studies/{study.name}/generations")
    chosen = reduce(or_, ((pc.field("strategy") == name) & (pc.field("g") < g) for name, g in most.items()))
    rows = pq.read_table(published.file("generations.parquet"), columns=list(COLUMNS), filters=chosen)
    drops = pq.read_table(published.file("generation_drops.parquet"), columns=["strategy", "g"], filters=chosen)
    rows = rows.append_column("written", pc.coalesce(rows["output_tokens"], rows["tokens"]))
    with closing(Catalog.from_env()) as catalog:
        catalog.ready()
        usage = catalog.usage()
    seconds = on_gpus = 0.0
    for group in rows.group_by(["strategy", "model"]).aggregate([("written", "sum")]).to_pylist():
        rate, gpus = (
            seconds_per_token([r for r in usage if r["model"] == group["model"]]),
            _gpus(study, group["strategy"]),
        )
        own = None if rate is None else rate * group["written_sum"]
        seconds = None if seconds is None or own is None else seconds + own
        if gpus:
            on_gpus = None if on_gpus is None or own is None else on_gpus + own * gpus
    made = (len(rows) + len(drops)) / max(len(rows), 1)
    return {
        "generations": len(rows),
        "dropped": len(drops),
        "input_tokens": pc.sum(rows["input_tokens"]).as_py() or 0,
        "output_tokens": pc.sum(rows["written"]).as_py() or 0,
        "engine_seconds": seconds and seconds * made,
        "gpu_seconds": on_gpus and on_gpus * made,
    }


def device_hours(runs: Sequence[Mapping], of: int = 1) -> dict[str, float]:
    """Hours of GPUs, and of CPUs, that runs took together, or the mean ``of`` so many; a CPU's processes share it.

    ``runs`` are evaluations: seconds, device and processes.
    """
    on_gpu = sum(run["seconds"] * run.get("processes", 1) for run in runs if run["device"] != "cpu")
    on_cpu = sum(run["seconds"] for run in runs if run["device"] == "cpu")
    return {"training_gpu_hours": on_gpu / 3600 / of, "training_cpu_hours": on_cpu / 3600 / of}


def run_cost(trained: Published) -> dict[str, float]:
    """Of one training run, as metrics: tokens, FLOPs, seconds, and hours of GPUs or of a CPU."""
    found = json.loads(trained.file("evaluation.json").read_text(encoding="utf-8"))
    own = {"trained_tokens": found["tokens"]["total"], "flops": found["flops"], "train_seconds": found["seconds"]}
    return {name: float(value) for name, value in own.items()} | device_hours([found])


def _gpus(study: Study, strategy: str) -> int:
    """That its server has, one per endpoint where it runs already; none for text that no server writes."""
    server = study.servers.get(study.strategies[strategy].engine.server or "")
    return (len(server.endpoints) or server.gpus) if server else 0
