"""Running a plan: each shard generates what the ledger lacks; then the ledger's rows are published for the study."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.generate.engines import open_engine
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import remaining
from palimpsest.generate.requests import Outcome
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows, digest_json

log = logging.getLogger(__name__)

SEGMENT_ROWS = 256
"""Outcomes per ledger segment: at most so many are repaid after a crash."""
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
"""Plain-text delimiters around a rationale (megadocs digest, 3.3)."""
GENERATIONS = pa.schema(
    [
        ("generation_id", pa.string()),
        ("document_id", pa.string()),
        ("strategy", pa.string()),
        ("kind", pa.string()),
        ("g", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.int64()),
        ("finish_reason", pa.string()),
        ("truncated", pa.bool_()),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("prompt_sha256", pa.string()),
    ]
)
MISSING = pa.schema(
    [("key", pa.string()), ("url", pa.string()), ("strategy", pa.string()), ("g", pa.int32()), ("cause", pa.string())]
)
CODE = ("plugins/palimpsest/generate/run.py", "plugins/palimpsest/tokenizer.py")


def generate_shard(
    study: Study,
    lake: Lake,
    *,
    split: Published,
    plan: Published,
    shard: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, object]:
    """Generate what the ledger lacks of one shard; counts of what was asked, made and refused, by cause.

    ``engines`` has, per engine, its requests and its seconds paid, useful (they gave a text) and repaid (for keys
    the ledger held: none, because only what it lacks is asked for).
    """
    start = time.perf_counter()
    left = remaining(lake, split=split, plan=plan, shard=shard)
    total, made, causes = sum(map(len, left.values())), 0, Counter()
    engines: dict[str, Counter] = {}
    ledger = Ledger(lake)
    known = _known_failures(ledger, [r.key for requests in left.values() for r in requests])
    batch: list[Outcome] = []
    for strategy, requests in left.items():
        for outcome in open_engine(study, strategy, lake).generate(requests):
            made += outcome.text is not None
            causes.update([outcome.cause] if outcome.cause else [])
            useful = outcome.engine_seconds if outcome.text is not None else 0.0
            spent = {"requests": 1, "paid": outcome.engine_seconds, "useful": useful, "repaid": 0.0}
            engines.setdefault(outcome.engine, Counter()).update(spent)
            if (outcome.key, outcome.cause) not in known:
                batch.append(outcome)
            if len(batch) >= SEGMENT_ROWS:
                ledger.append(batch)
                batch = []
                log.info("shard %d: %d of %d requests", shard, made + causes.total(), total)
            if progress:
                progress(made + causes.total(), total)
    ledger.append(batch)
    log.info("shard %d: %d asked, %d made, not made: %s", shard, total, made, dict(causes) or "none")
    seconds = time.perf_counter() - start
    return {
        "shard": shard,
        "asked": total,
        "made": made,
        "not_made": dict(causes),
        "seconds": round(seconds, 3),
        "engines": {name: dict(spent) for name, spent in engines.items()},
    }


def publish_generations(study: Study, lake: Lake, *, split: Published, plan: Published) -> Published:
    """``studies/<s>/generations``: what the ledger holds of the plan, with token counts; what it lacks, by cause.

    Raises `LakeError` if a planned request was never tried: then a shard has not run to its end.
    """
    planned = pq.read_table(plan.file("requests.parquet")).to_pylist()
    ledger = {row["key"]: row for row in Ledger(lake).read(row["key"] for row in planned).to_pylist()}
    untried = [row for row in planned if row["key"] not in ledger]
    if untried:
        shards = sorted({row["shard"] for row in untried})
        raise LakeError(
            f"study {study.name}: {len(untried)} of {len(planned)} planned requests were never tried "
            f"(shards {shards}); run them: python -m palimpsest generate {study.name}"
        )

    def write(directory: Path) -> Facts:
        tokenizer = tok.load(split.file("tokenizer.json"))
        made = [row for row in planned if ledger[row["key"]]["text"] is not None]
        lost = [{**row, "cause": ledger[row["key"]]["cause"]} for row in planned if ledger[row["key"]]["text"] is None]
        texts = [ledger[row["key"]]["text"] for row in made]
        tokens = tok.count(tokenizer, [as_laid_out(row["kind"], t) for row, t in zip(made, texts, strict=True)])
        rows = [
            {
                **row,
                "generation_id": row["key"],
                "text": text,
                "tokens": count,
                "finish_reason": ledger[row["key"]]["finish_reason"],
                "truncated": ledger[row["key"]]["finish_reason"] == "length",
                "seed": ledger[row["key"]]["seed"],
            }
            for row, text, count in zip(made, texts, tokens, strict=True)
        ]
        _write(directory / "generations.parquet", rows, GENERATIONS)
        _write(directory / "missing.parquet", lost, MISSING)
        return Facts(
            Rows(len(planned), len(made), quarantined=Counter(row["cause"] for row in lost)),
            {"by_strategy": _by_strategy(study, planned, made), "tokens": sum(tokens)},
        )

    found = digest_json(sorted((key, row["text"] is None) for key, row in ledger.items()))
    return lake.publish(
        f"studies/{study.name}/generations", write, config={"found": found}, parents=[split, plan], code=CODE
    )


def as_laid_out(kind: str, text: str) -> str:
    """A generation as it stands in a megadoc: a rationale between its delimiters, anything else as it is."""
    return f"{THINK_OPEN}{text}{THINK_CLOSE}" if kind == "rationale" else text


def _known_failures(ledger: Ledger, keys: list[str]) -> set[tuple[str, str]]:
    return {(row["key"], row["cause"]) for row in ledger.read(keys).to_pylist() if row["text"] is None}


def _by_strategy(study: Study, planned: list[dict], made: list[dict]) -> dict[str, dict[str, int]]:
    """Per strategy: requests planned and made, and documents that have fewer generations than planned."""
    facts = {}
    for name in study.strategies:
        asked = Counter(row["document_id"] for row in planned if row["strategy"] == name)
        got = Counter(row["document_id"] for row in made if row["strategy"] == name)
        facts[name] = {
            "planned": asked.total(),
            "made": got.total(),
            "documents": len(asked),
            "documents_incomplete": sum(got[d] < n for d, n in asked.items()),
        }
    return facts


def _write(file: Path, rows: list[dict], schema: pa.Schema) -> None:
    columns = [[row[name] for row in rows] for name in schema.names]
    pq.write_table(
        pa.Table.from_arrays([pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema=schema),
        file,
        compression="zstd",
    )
