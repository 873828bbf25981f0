"""The plan of a study's generations: every request with its content key, and the slices rationales go between."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.config import Strategy, Study
from palimpsest.generate.engines import open_engine
from palimpsest.generate.ledger import Ledger, request_key
from palimpsest.generate.requests import Request
from palimpsest.lake import Facts, Lake, Published

REQUESTS = pa.schema(
    [
        ("key", pa.string()),
        ("document_id", pa.string()),
        ("url", pa.string()),
        ("strategy", pa.string()),
        ("kind", pa.string()),
        ("g", pa.int32()),
        ("shard", pa.int32()),
        ("seed", pa.int64()),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("prompt_sha256", pa.string()),
    ]
)
SLICES = pa.schema(
    [
        ("document_id", pa.string()),
        ("strategy", pa.string()),
        ("slice", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.int64()),
    ]
)
CODE = tuple(f"plugins/palimpsest/{name}.py" for name in ("generate/plan", "generate/ledger", "tokenizer"))


def plan(study: Study, lake: Lake, *, split: Published) -> Published:
    """``studies/<s>/plan``: requests.parquet and slices.parquet; how much of it is left only the ledger says."""
    engines = {name: open_engine(strategy) for name, strategy in study.strategies.items()}

    def write(directory: Path) -> Facts:
        documents = pq.read_table(split.file("train.parquet"), columns=["document_id", "url", "text"]).to_pylist()
        tokenizer = tok.load(split.file("tokenizer.json"))
        requests, slices = [], []
        for name, strategy in study.strategies.items():
            engine = engines[name]
            prompt = engine.prompt(strategy)
            for document in documents:
                parts = 1
                if strategy.kind == "rationale":
                    texts = tok.slices(tokenizer, document["text"], strategy.generations + 1)
                    parts = len(texts)
                    slices += _slices(document["document_id"], name, texts, tok.count(tokenizer, texts))
                samples = parts - 1 if strategy.kind == "rationale" else strategy.generations
                for g in range(samples):
                    key = request_key(document["text"], prompt, engine.model, _sampling(strategy), g)
                    requests.append(
                        {
                            "key": key,
                            "document_id": document["document_id"],
                            "url": document["url"],
                            "strategy": name,
                            "kind": strategy.kind,
                            "g": g,
                            "shard": shard_of(document["document_id"], study.shards),
                            "seed": int(key[:15], 16),
                            "engine": engine.name,
                            "model": engine.model,
                            "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
                        }
                    )
        pq.write_table(pa.Table.from_pylist(requests, REQUESTS), directory / "requests.parquet", compression="zstd")
        pq.write_table(pa.Table.from_pylist(slices, SLICES), directory / "slices.parquet", compression="zstd")
        return Facts(extra={"documents": len(documents), "requests": len(requests), "shards": study.shards})

    config = {
        "strategies": {name: strategy.model_dump() for name, strategy in study.strategies.items()},
        "models": {name: engine.model for name, engine in engines.items()},
        "prompts": {name: engine.prompt(study.strategies[name]) for name, engine in engines.items()},
        "shards": study.shards,
    }
    return lake.publish(f"studies/{study.name}/plan", write, config=config, parents=[split], code=CODE)


def remaining(lake: Lake, *, split: Published, plan: Published, shard: int | None = None) -> dict[str, list[Request]]:
    """What is left to generate, by strategy: the plan (or one shard of it) minus the ledger."""
    filters = None if shard is None else [("shard", "=", shard)]
    planned = pq.read_table(plan.file("requests.parquet"), filters=filters).to_pylist()
    done = Ledger(lake).done(row["key"] for row in planned)
    texts = pq.read_table(split.file("train.parquet"), columns=["document_id", "text"])
    document = dict(zip(*(texts[c].to_pylist() for c in ("document_id", "text")), strict=True))
    left: dict[str, list[Request]] = {}
    asked = set()
    for row in planned:
        if row["key"] in done or row["key"] in asked:
            continue
        asked.add(row["key"])
        left.setdefault(row["strategy"], []).append(
            Request(row["key"], row["url"], row["kind"], row["g"], document[row["document_id"]], row["seed"])
        )
    return left


def shard_of(document_id: str, shards: int) -> int:
    """A document's shard: by its id alone, so all its samples meet in one place."""
    return int(hashlib.sha256(document_id.encode()).hexdigest()[:8], 16) % shards


def _sampling(strategy: Strategy) -> dict[str, object]:
    return {"seed": strategy.seed}


def _slices(document_id: str, strategy: str, texts: list[str], counts: list[int]) -> list[dict[str, object]]:
    rows = enumerate(zip(texts, counts, strict=True))
    return [
        {"document_id": document_id, "strategy": strategy, "slice": i, "text": text, "tokens": tokens}
        for i, (text, tokens) in rows
    ]
