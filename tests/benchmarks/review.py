"""Reviewing a generation of some 500 words (700 tokens): all ten rules, repair and faithfulness, in CPU time.

Beside it datatrove's Gopher repetition filter alone, the nearest to one of the ten; its time is mostly spaCy's words.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from palimpsest.config import Strategy
from palimpsest.generate.prompts import load_prompt
from palimpsest.generate.review import Part, Reviewer, review_generation, reviewer
from palimpsest.generate.review.benchmark import Benchmarks
from palimpsest.lake import REPOSITORY

ROUNDS = 7
LIMIT_MS = 1.5
ITEMS = 1500
PEER = ["datatrove==0.10.1", "spacy==3.8.18", "nltk==3.10.4", "regex==2026.11.15", "numpy==2.4.6"]


def run() -> list[dict]:
    texts, sources = _texts()
    with tempfile.TemporaryDirectory() as folder:
        benchmarks = Benchmarks((_items(Path(folder, "items.jsonl")),))
        peer = _repetition_filter(Path(folder), texts)
    return [
        {
            "name": f"review: ten rules at G={samples} (limit {LIMIT_MS} ms), against datatrove's repetition filter",
            "ours": _milliseconds(texts, sources, benchmarks, samples),
            "peer": peer,
            "unit": "ms",
        }
        for samples in (1, 8)
    ]


def _texts() -> tuple[list[str], list[str]]:
    """Rephrases of the sample, two by two, and as the source of each the other two of its page."""
    lines = Path(REPOSITORY, "sample", "generations.jsonl").read_text(encoding="utf-8").splitlines()
    rephrases = [row["text"] for row in map(json.loads, lines) if row["strategy"] == "rephrase"]
    pages = [rephrases[i : i + 4] for i in range(0, len(rephrases), 4)]
    return ["\n\n".join(page[:2]) for page in pages], ["\n\n".join(page[2:]) for page in pages]


def _items(file: Path) -> Path:
    """Evaluation items of made-up words."""
    chance = random.Random(0)
    words = ["".join(chance.choices("aeioukmnprst", k=6)) for _ in range(2000)]
    items = [{"query": " ".join(chance.choices(words, k=25)), "answer": chance.choice(words)} for _ in range(ITEMS)]
    file.write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    return file


def _milliseconds(texts: list[str], sources: list[str], benchmarks: Benchmarks, samples: int) -> float:
    """Per text, the least of several rounds; each source is met for the first time, then ``samples`` times in all."""
    rules = Reviewer("rephrase", benchmarks=benchmarks)
    engine = {"kind": "vllm", "server": "any"}
    prompt = load_prompt(Strategy.model_validate({"kind": "rephrase", "generations": 1, "engine": engine}))
    work = []
    for place, text in enumerate(texts):
        source = sources[place // samples * samples]
        work.append((Part(text, prompt.render(document=source), "stop"), source))
    least = float("inf")
    for _ in range(ROUNDS):
        for kept in (reviewer._facts, reviewer._language):  # every round meets its documents for the first time
            kept.cache_clear()
        start = time.process_time()
        for part, source in work:
            review_generation([part], document=source, reviewer=rules)
        least = min(least, time.process_time() - start)
    return 1000 * least / len(work)


def _repetition_filter(folder: Path, texts: list[str]) -> float | None:
    """The peer's milliseconds per text; None where it cannot be installed."""
    place, python = folder / "peer", folder / "peer" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER], capture_output=True, text=True)
    if done.returncode:
        print(f"datatrove is not compared with: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    file = folder / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    script = Path(__file__).parent / "filters" / "repetition.py"
    said = subprocess.run([str(python), str(script), str(file)], capture_output=True, text=True, check=True)
    return float(said.stdout.split()[-1])
