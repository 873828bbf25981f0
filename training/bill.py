"""What a whole study costs, written and trained, against its budget: ``python -m training cost STUDY``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import Lake, NotPublished, Published


@dataclass(frozen=True)
class Written:
    """What one strategy asks for; generations that an earlier one of the study asks for too are counted there."""

    strategy: str
    requests: int
    tokens: int
    on_gpu: bool
    tokens_per_second: float | None = None
    """Output tokens of one GPU."""
    shared: int = 0
    """Requests of its own that are counted with an earlier strategy."""

    @property
    def gpu_hours(self) -> float | None:
        """None where the speed is not known."""
        if not self.on_gpu or not self.tokens:
            return 0.0
        return self.tokens / self.tokens_per_second / 3600 if self.tokens_per_second else None


@dataclass(frozen=True)
class Speed:
    """How fast one device trains, and where that is from."""

    tflops: float
    device: str
    """'GPU' or 'CPU'."""
    source: str


def written(study: Study, counts: Mapping[str, tuple[int, int]], speed: float | None = None) -> list[Written]:
    """A row per strategy of requests and tokens; ``speed`` (tokens per second and GPU) overrides the servers' own.

    Strategies that ask the same model the same with the same seed share a key for each of their first generations, and
    the ledger pays one once: only what the largest of them adds is counted. Rationales share where G is the same.
    """
    found, most = [], {}
    for name, strategy in study.strategies.items():
        server = study.servers.get(strategy.engine.server or "")
        asked = _asked(study, name)
        new = max(0, strategy.samples - most.get(asked, 0))
        most[asked] = max(strategy.samples, most.get(asked, 0))
        requests, tokens = (count * new // strategy.samples for count in counts.get(name, (0, 0)))
        on_gpu = server is not None and bool(server.endpoints or server.gpus)
        rate = (speed or server.tokens_per_second) if on_gpu else None
        found.append(Written(name, requests, tokens, on_gpu, rate, counts.get(name, (0, 0))[0] - requests))
    return found


def expected(study: Study, documents: int, tokens: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Requests and tokens by strategy if every document that mixes may use has all its generations."""
    used = round(study.real_share * documents)
    return {
        name: (used * strategy.samples, used * strategy.samples * tokens[name])
        for name, strategy in study.strategies.items()
    }


def planned(study: Study, plan: Published, split: Published) -> dict[str, tuple[int, int]]:
    """The same from a plan; engines without a model are taken to write as much as they read."""
    mean = split.extra["train_tokens"] / max(split.extra["train_documents"], 1)
    found = {}
    for name in study.strategies:
        facts = plan.extra["strategies"][name]
        found[name] = (facts["requests"], facts["expected_tokens"] or round(mean * facts["requests"]))
    return found


def measured(study: Study, lake: Lake, runs: Sequence[str]) -> Speed | None:
    """What one device reached over those of these runs that the lake has."""
    flops, seconds, devices = 0.0, 0.0, set()
    for run in runs:
        try:
            file = lake.latest(f"studies/{study.name}/runs/{run}").file("evaluation.json")
        except NotPublished:
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        on_cpu = found["device"] == "cpu"
        flops += found["flops"]
        seconds += found["seconds"] * (1 if on_cpu else found.get("processes", 1))  # a CPU's processes share it
        devices.add("CPU" if on_cpu else "GPU")
    if len(devices) != 1 or not seconds:
        return None
    return Speed(flops / seconds / 1e12, devices.pop(), "measured in this study's runs")


def made(generations: Published) -> dict[str, tuple[int, int]]:
    """Generations and tokens by strategy, as published; what the review dropped was paid and counts as long."""
    columns = ["strategy", "tokens", "output_tokens"]
    rows = pq.read_table(generations.file("generations.parquet"), columns=columns)
    rows = rows.append_column("written", pc.coalesce(rows["output_tokens"], rows["tokens"]))
    drops = pq.read_table(generations.file("generation_drops.parquet"), columns=["strategy"])
    dropped = {row["strategy"]: row["strategy_count"]
               for row in drops.group_by("strategy").aggregate([("strategy", "count")]).to_pylist()}  # fmt: skip
    found = {}
    for row in rows.group_by("strategy").aggregate([("written", "sum"), ("strategy", "count")]).to_pylist():
        kept = row["strategy_count"]
        asked = kept + dropped.get(row["strategy"], 0)
        found[row["strategy"]] = (asked, round((row["written_sum"] or 0) * asked / kept))
    return found


def table(rows: Sequence[Written]) -> str:
    lines = [f"{'generated by':<28}{'requests':>14}{'tokens':>12}{'tokens/s a GPU':>16}{'GPU hours':>12}"]
    for row in rows:
        rate = f"{row.tokens_per_second:,.0f}" if row.tokens_per_second else "?" if row.on_gpu else "no GPU"
        tokens = f"{row.tokens / 1e6:,.1f}M"
        lines.append(f"{row.strategy:<28}{row.requests:>14,}{tokens:>12}{rate:>16}{hours(row.gpu_hours):>12}")
        if row.shared:
            lines.append(f"  {row.shared:,} more requests are those of an earlier strategy, paid once")
    requests, tokens = sum(row.requests for row in rows), sum(row.tokens for row in rows)
    lines.append(f"{requests:,} requests, {tokens / 1e6:,.1f}M tokens")
    return "\n".join(lines)


def verdict(study: Study, rows: Sequence[Written], flops: float, speed: Speed | None) -> str:
    """GPU hours of both parts and of all, against ``budget_gpu_hours``; what is not known is said, never guessed."""
    known = [row.gpu_hours for row in rows]
    writing = None if None in known else sum(known)
    time = flops / speed.tflops / 1e12 / 3600 if speed else None
    training = None if time is None else time if speed.device == "GPU" else 0.0
    lines = [f"GPU hours: {hours(writing)} to generate, {hours(training)} to train"]
    if speed:
        lines.append(f"Training at {speed.tflops:,.3g} TFLOP/s a {speed.device} ({speed.source}): {hours(time)} hours.")
    else:
        lines.append("No run has been measured: give --tflops, or assumed.tflops in the study, of one device.")
    for row in rows:
        if row.gpu_hours is None:
            server = study.strategies[row.strategy].engine.server
            lines.append(
                f"{row.strategy}: give --tokens-per-second, or servers.{server}.tokens_per_second, of one GPU."
            )
    total = None if writing is None or training is None else writing + training
    if total is None:
        lines.append(f"In all: unknown; budget_gpu_hours is {study.budget_gpu_hours:,g}.")
    else:
        side = "above" if total > study.budget_gpu_hours else "within"
        lines.append(f"In all {hours(total)} GPU hours, {side} budget_gpu_hours of {study.budget_gpu_hours:,g}.")
    return "\n".join(lines)


def hours(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.1f}" if value >= 10 or not value else f"{value:.2g}"


def _asked(study: Study, name: str) -> str:
    """Equal for strategies whose requests have the same keys."""
    strategy = study.strategies[name]
    server = study.servers.get(strategy.engine.server or "")
    asked = strategy.model_dump(mode="json", include={"kind", "prompt", "seed", "chunk_tokens", "prefix_share"})
    asked["engine"] = strategy.engine.model_dump(mode="json", exclude={"server"})
    asked["model"] = [server.model, server.revision, server.context] if server else None
    asked["sampling"] = strategy.sampling.canonical()
    asked["slices"] = strategy.generations if strategy.kind == "rationale" else None
    return json.dumps(asked, sort_keys=True)
