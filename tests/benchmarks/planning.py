"""A million requests: planned, and what is left of them when the ledger holds half. No peer plans before it asks."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan, planned_requests
from palimpsest.generate.requests import Outcome
from palimpsest.generate.tables import planned_rows
from palimpsest.lake import REPOSITORY, Facts, Lake, Published

DOCUMENTS, SAMPLES = 31_250, 32
WORDS = 300
SEGMENT = 10_000


def run() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PALIMPSEST_STATE": f"{folder}/state", "TMPDIR": folder}
        environment["PYTHONPATH"] = f"{REPOSITORY / 'plugins'}{os.pathsep}{REPOSITORY}"
        command = [sys.executable, __file__, folder]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    measured = json.loads(done.stdout)
    name = f"plan: {DOCUMENTS * SAMPLES:,} requests of {DOCUMENTS:,} documents"
    return [
        {"name": name, "ours": measured["plan"], "unit": "s"},
        {"name": f"{name}, unchanged", "ours": measured["unchanged"], "unit": "s"},
        {"name": f"{name}: what is left, with prompts", "ours": measured["diff"], "unit": "s"},
        {"name": f"{name}: most memory", "ours": measured["memory"], "unit": "MiB"},
    ]


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each step, and the process's peak memory; raises unless exactly half is left."""
    lake, study = Lake(folder / "lake"), _study(_model(folder / "model"))
    split = lake.publish("studies/bench/split", _write_split)
    start = time.perf_counter()
    planned = plan(study, lake, split=split)
    seconds = {"plan": time.perf_counter() - start}
    start = time.perf_counter()
    plan(study, lake, split=split)
    seconds["unchanged"] = time.perf_counter() - start
    ledger = Ledger(lake)
    _answer_half(ledger, planned)
    start = time.perf_counter()
    keys = {row["key"] for row in planned_rows(planned, ["key"])}
    left = keys - ledger.done(keys)
    asked = sum(1 for _ in planned_requests(study, lake, split=split, plan=planned, keys=left))
    seconds["diff"] = time.perf_counter() - start
    assert 2 * asked == len(keys) == DOCUMENTS * SAMPLES
    return seconds | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _answer_half(ledger: Ledger, planned: Published) -> None:
    outcomes = []
    for number, row in enumerate(planned_rows(planned, ["key", "model", "seed"])):
        if number % 2:
            outcomes.append(Outcome(row["key"], f"Answer {number}.", "vllm", row["model"], row["seed"], "stop"))
        if len(outcomes) == SEGMENT:
            ledger.append(outcomes)
            outcomes = []
    ledger.append(outcomes)


def _words() -> list[str]:
    lines = (REPOSITORY / "sample" / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    return " ".join(json.loads(line)["text"] for line in lines).split()


def _documents() -> Iterator[dict[str, object]]:
    words, chance = _words(), random.Random(0)
    for number in range(DOCUMENTS):
        start = chance.randrange(len(words) - WORDS)
        text = f"Document {number}. " + " ".join(words[start : start + WORDS])
        name = hashlib.sha256(str(number).encode()).hexdigest()[:16]
        yield {
            "document_id": name,
            "url": f"https://example.org/{number}",
            "text": text,
            "is_reserve": False,
            "depth": 0,
        }


def _write_split(directory: Path) -> Facts:
    pq.write_table(pa.Table.from_pylist(list(_documents())), directory / "train.parquet", row_group_size=4096)
    tok.train([" ".join(_words())], 4096).save(str(directory / "tokenizer.json"))
    return Facts()


def _model(folder: Path) -> Path:
    """A folder as a model's, without weights: a plan needs the tokenizer."""
    folder.mkdir()
    tok.train([" ".join(_words())], 4096).save(str(folder / "tokenizer.json"))
    for name, content in {
        "config.json": {},
        "model.safetensors": {},
        "tokenizer_config.json": {"chat_template": "x"},
    }.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def _study(model: Path) -> Study:
    asked = {"kind": "rephrase", "generations": SAMPLES, "engine": {"kind": "vllm", "server": "main"}}
    return Study.model_validate(
        {
            "name": "bench",
            "description": "A million rephrases.",
            "corpora": ["sample"],
            "validation": {"rule": "hash_share", "share": 0.1},
            "servers": {"main": {"model": str(model)}},
            "strategies": {"rephrase": asked},
            "layouts": {"real": {"kind": "real"}},
            "mixes": {"real": {"layout": "real", "epochs": 1}},
            "reference": "real",
            "training": {"model": {"layers": 1, "width": 16, "mlp": 16, "heads": 2}},
        }
    )


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
