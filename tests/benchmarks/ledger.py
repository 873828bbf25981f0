"""A million generations of 2 kB in the ledger: compared with the plan, merged and published; some of them reviewed.

Each step in a process of its own, so that its peak memory is its own. No peer does the same. A review takes a
millisecond of one core (benchmark 'review'), so it has a line of its own, with fewer.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from palimpsest.config import Strategy
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.generate.requests import Outcome
from palimpsest.generate.standing import Standing
from palimpsest.generate.tables import planned_rows
from palimpsest.lake import REPOSITORY, Lake
from tests.benchmarks import planning

REQUESTS, REVIEWED = 1_000_000, 50_000
WORDS = 330
SEGMENT_ROWS = 2_048
STEPS = ("fill", "diff", "compact", "publish")
CONTROL = {"kind": "augment", "generations": planning.SAMPLES, "engine": {"kind": "augment"}}
"""Not reviewed: what it costs is the ledger's and the publication's own."""


def run() -> list[dict]:
    rows = []
    for kind, requests in (("augment", REQUESTS), ("rephrase", REVIEWED)):
        with tempfile.TemporaryDirectory() as folder:
            for step in STEPS:
                measured = measure(Path(folder), requests, kind, step)
                if step == "publish" or (step != "fill" and kind == "augment"):
                    reviewed = " reviewed" if kind == "rephrase" else ""
                    name = f"ledger: {step} {requests:,}{reviewed} generations of 2 kB"
                    rows.append({"name": name, "ours": measured["seconds"], "unit": "s"})
                    rows.append({"name": f"{name}, most memory", "ours": measured["memory"], "unit": "MiB"})
    return rows


def measure(folder: Path, requests: int, kind: str, step: str) -> dict[str, float]:
    """Seconds and peak memory (MiB) of one of `STEPS`, in a process of its own."""
    environment = {**os.environ, "PALIMPSEST_STATE": f"{folder}/state", "TMPDIR": str(folder)}
    environment["PYTHONPATH"] = f"{REPOSITORY / 'plugins'}{os.pathsep}{REPOSITORY}"
    command = [sys.executable, __file__, str(folder), str(requests), kind, step]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main(folder: Path, requests: int, kind: str, step: str) -> dict[str, float]:
    planning.DOCUMENTS = requests // planning.SAMPLES
    model = folder / "model"
    study, lake = planning._study(model if model.exists() else planning._model(model)), Lake(folder / "lake")
    if kind == "augment":
        study = study.model_copy(update={"strategies": {"control": Strategy.model_validate(CONTROL)}})
    split = lake.publish("studies/bench/split", planning._write_split)
    planned = plan(study, lake, split=split)
    ledger, total = Ledger(lake), planned.extra["requests"]
    start = time.perf_counter()
    if step == "fill":
        batch: list[Outcome] = []
        for outcome in _outcomes(planned):
            batch.append(outcome)
            if len(batch) == SEGMENT_ROWS:
                ledger.append(batch)
                batch = []
        ledger.append(batch)
    elif step == "diff":
        standing = Standing(ledger.segments, (row["key"] for row in planned_rows(planned, ["key"])))
        standing.update()
        assert len(standing.done()) == total
    elif step == "compact":
        assert ledger.compact()["merged"] > 1 or requests < 10 * SEGMENT_ROWS
    else:
        rows = publish_generations(study, lake, split=split, plan=planned).manifest["rows"]
        assert rows["input"] == total and rows["kept"] > 0.9 * total, rows
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": _peak_kib() / 1024}


def _peak_kib() -> int:
    """Of this process since it began; ru_maxrss would begin with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _outcomes(planned) -> Iterator[Outcome]:
    """An answer to each request, in the order of nothing, as servers give them."""
    words, chance = planning._words(), random.Random(1)
    rows = list(planned_rows(planned, ["key", "engine", "model", "seed"]))
    chance.shuffle(rows)
    for row in rows:
        start = chance.randrange(len(words) - WORDS)
        text = " ".join(words[start : start + WORDS])
        yield Outcome(
            key=row["key"],
            text=text,
            engine=row["engine"],
            model=row["model"],
            seed=row["seed"],
            finish_reason="stop",
            engine_seconds=0.1,
            input_tokens=400,
            output_tokens=440,
        )


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))
