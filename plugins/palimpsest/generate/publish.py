"""What the ledger holds of a plan, reviewed and published: kept, dropped for a reason, or missing for a cause.

Streamed in the plan's order, so the bytes depend on the rows alone and the memory on neither: the ledger's rows are
put in order in temporary files, a few hundred generations are in memory at a time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.generate import review
from palimpsest.generate.asks import Asker
from palimpsest.generate.balance import Balance
from palimpsest.generate.fates import Decided, fates
from palimpsest.generate.generations import Fate, Generation, most_attempts, planned_generations
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.review import open_reviewer
from palimpsest.generate.review.drops import DROPS, dropped
from palimpsest.generate.segments import Row
from palimpsest.generate.standing import Standing
from palimpsest.generate.tables import planned_rows
from palimpsest.lake import Facts, Lake, LakeError, Published
from palimpsest.provenance import GROUNDED, SEEDED, Generator, decoding_of, generator_of, verifier_of

log = logging.getLogger(__name__)

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
        ("truncated", pa.bool_()),  # an answer, or one of its parts, was cut off at its token limit
        ("engine", pa.string()),
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("prompt", pa.string()),
        ("prompt_sha256", pa.string()),
        ("attempt", pa.int32()),  # 0: the first answer was good enough
        ("parts", pa.int32()),  # chunks of a long document, joined
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("input_truncated", pa.bool_()),  # the source was cut: some of it was not shown, or a sentence was broken
        ("defects", pa.list_(pa.string())),
        ("faithfulness", pa.float64()),
        ("origin", pa.string()),
        ("depth", pa.int32()),  # models between this text and people; null where a lineage is lost
        ("grounded", pa.bool_()),  # written over a real document, not made up
        ("self_consuming", pa.bool_()),  # its generator was trained on this platform's corpora
        ("seed_document_ids", pa.list_(pa.string())),
        ("generator_mix", pa.string()),  # what its generator was trained on, where that was here
        ("decoding", pa.string()),
        ("verifier", pa.string()),
        ("verdict", pa.string()),
    ]
)
MISSING = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("strategy", pa.string()),
        ("g", pa.int32()),
        ("part", pa.int32()),
        ("cause", pa.string()),
        ("detail", pa.string()),
    ]
)
CODE = (
    *(f"plugins/palimpsest/generate/{name}.py" for name in ("publish", "generations", "fates", "balance")),
    "plugins/palimpsest/provenance.py",
    "plugins/palimpsest/tokenizer.py",
    *review.CODE,
)


def publish_generations(study: Study, lake: Lake, *, split: Published, plan: Published) -> Published:
    """``studies/<s>/generations``: generations.parquet (kept), generation_drops.parquet, missing.parquet.

    A row is a sample of a strategy for a document; the parts of a long one are joined. Raises `LakeError` if a
    planned request was never tried, or is to be asked again and was not: then a shard has not run to its end.
    """
    reviewers = {name: open_reviewer(study, name) for name in study.strategies}
    generators = {name: generator_of(study, name, Asker(study, name, lake).model, lake) for name in study.strategies}
    origins = {name: _origin(study, name, generators[name], reviewers[name].canonical()) for name in study.strategies}
    ledger = Ledger(lake)
    inputs = {"split": split, "plan": plan, "shard": None}

    def generations() -> Iterator[Generation]:
        for name, reviewer in reviewers.items():
            yield from planned_generations(study, lake, reviewer, name, **inputs)

    def keys() -> Iterator[str]:
        if any(map(most_attempts, reviewers.values())):
            return chain.from_iterable(generation.keys for generation in generations())
        return (row["key"] for row in planned_rows(plan, ["key"]))

    def write(directory: Path) -> Facts:
        tokenizer = tok.load(split.file("tokenizer.json"))
        counts = Balance(list(study.strategies))
        depths = _depths(split)
        with ExitStack() as stack:
            tables = {
                name: stack.enter_context(pq.ParquetWriter(directory / f"{name}.parquet", schema, compression="zstd"))
                for name, schema in (("generations", GENERATIONS), ("generation_drops", DROPS), ("missing", MISSING))
            }
            decided = fates(study, reviewers, generations(), ledger.in_order(keys()), plan.extra["requests"])
            for part in decided:
                kept, drops, missing = _rows(part, tokenizer)
                counts.add(part)
                for row in kept:
                    depth = generators[row["strategy"]].depth_of_text(depths.get(row["document_id"], 0))
                    seeds = [row["document_id"]] if row["kind"] in SEEDED else []
                    row |= origins[row["strategy"]] | {"depth": depth, "seed_document_ids": seeds}
                for name, rows in (("generations", kept), ("generation_drops", drops), ("missing", missing)):
                    if rows:
                        tables[name].write_table(pa.Table.from_pylist(rows, tables[name].schema))
                counts.tokens += sum(row["tokens"] for row in kept)
        if counts.open:
            raise _untried(study, counts.open, counts.open_shards, counts.total)
        return counts.facts()

    found = _found(study, ledger, plan, keys)
    config = {"found": found, "review": {name: reviewer.canonical() for name, reviewer in reviewers.items()}}
    config["provenance"] = {name: origins[name] | {"depth": generators[name].depth} for name in study.strategies}
    return lake.publish(f"studies/{study.name}/generations", write, config=config, parents=[split, plan], code=CODE)


def as_laid_out(kind: str, text: str) -> str:
    """A generation as it stands in a megadoc: a rationale between its delimiters, anything else as it is."""
    return f"{THINK_OPEN}{text}{THINK_CLOSE}" if kind == "rationale" else text


def _origin(study: Study, strategy: str, generator: Generator, reviewed_by: Mapping[str, object]) -> Row:
    """What is the same on every generation of a strategy."""
    kind = study.strategies[strategy].kind
    return {
        "origin": "synthetic",
        "grounded": kind in GROUNDED,
        "self_consuming": generator.self_consuming,
        "generator_mix": generator.mix,
        "decoding": decoding_of(study, strategy),
        "verifier": verifier_of(reviewed_by, kind),
        **({"verdict": "not_reviewed"} if kind == "augment" else {}),
    }


def _depths(split: Published) -> dict[str, int]:
    """Training documents that are not people's own text as far as is known, and how deep they lie."""
    table = pq.read_table(split.file("train.parquet"), columns=["document_id", "depth"], filters=[("depth", ">", 0)])
    return dict(zip(table["document_id"].to_pylist(), table["depth"].to_pylist(), strict=True))


def _found(study: Study, ledger: Ledger, plan: Published, keys) -> str:
    """Digest of what the ledger has of every key that may count; raises `LakeError` if a planned one is unknown."""
    standing = Standing(ledger.segments, keys())
    standing.update()
    untried, shards, total = 0, set(), 0
    for row in planned_rows(plan, ["key"]):
        total += 1
        if not standing.is_done(row["key"]):
            untried += 1
            shards.add(row["shard"])
    if untried:
        raise _untried(study, untried, shards, total)
    failed, digest = standing.failed(), hashlib.sha256()
    for key in keys():
        digest.update(f"{key}{key in failed:d}{standing.is_done(key):d}".encode())
    return digest.hexdigest()


def _untried(study: Study, untried: int, shards: Iterable[int], total: int) -> LakeError:
    return LakeError(
        f"study {study.name}: {untried} of {total} planned requests were never tried (shards {sorted(shards)}); "
        f"run them: python -m palimpsest generate {study.name}"
    )


def _rows(part: Decided, tokenizer: tok.Tokenizer) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows of the three tables."""
    kept, drops, missing = [], [], []
    for generation, made in part:
        planned = generation.planned[0]
        if made.failed:
            request, row = made.failed
            said = {"key": request.key, "part": request.part, "cause": row["cause"], "detail": row["detail"]}
            missing.append({name: said[name] if name in said else planned[name] for name in MISSING.names})
        elif made.reviewed:
            row = planned | {"generation_id": planned["key"], "attempt": made.attempt, "parts": len(made.rows)}
            if made.reviewed.decision == "keep":
                kept.append(row | _kept(generation, made))
            else:
                drops.append(dropped(row, made.reviewed))
    texts = [as_laid_out(row["kind"], row["text"]) for row in kept]
    for row, tokens in zip(kept, tok.count(tokenizer, texts), strict=True):
        row["tokens"] = tokens
    return [{name: row.get(name) for name in GENERATIONS.names} for row in kept], drops, missing


def _kept(generation: Generation, made: Fate) -> Row:
    rows = made.rows
    ends = [row["finish_reason"] for row in rows]
    return {
        "text": made.reviewed.text,
        "finish_reason": "length" if "length" in ends else ends[-1],
        "truncated": "length" in ends,
        "seed": rows[0]["seed"],
        "input_tokens": _sum(row["input_tokens"] for row in rows),
        "output_tokens": _sum(row["output_tokens"] for row in rows),
        "input_truncated": any(row["input_truncated"] for row in generation.planned),
        "defects": list(made.reviewed.defects),
        "faithfulness": made.reviewed.faithfulness,
        "verdict": "accepted_with_defects" if made.reviewed.defects else "accepted",
    }


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where the engine does not count."""
    known = list(counts)
    return None if None in known else sum(known)
