"""A study whose every run has a loss that is known: what the report says of it can be held against the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, Published
from training.analysis.laws import Law

LAW = Law(A=60.0, B=0.35, C=2.1)
FULL = 35_000
COUNTS = (1, 2, 4, 8)
GAP, SLOPE = 0.004, 0.012
"""Of stitched to simple at G = 1, and what each doubling adds; to stretched twice that."""
FACTOR = {"iid": 1.0, "short": 0.5, "long": 2.0, "reports": 4.0}
"""How much more the layouts differ on other held-out sets."""
SCATTER = 0.05
"""Of a held-out document's loss per token between one run and another."""
MODEL = {"layers": 1, "width": 32, "mlp": 64, "heads": 1}


def simple_loss(g: int) -> float:
    return 0.25 / g**0.6 + LAW.loss(FULL) - 0.45


def make_study(**changes) -> Study:
    strategies = {
        "rephrase": {"kind": "rephrase", "generations": 8, "engine": {"kind": "recorded", "file": "x.jsonl"}},
    }
    layouts = {"real": {"kind": "real"}}
    mixes = {"real": {"layout": "real", "epochs": 16}}
    for g in COUNTS:
        for kind in ("simple", "stitched"):
            layouts[f"{kind}_{g}"] = {"kind": kind, "strategy": "rephrase", "generations": g}
            mixes[f"{kind}_{g}"] = {"layout": f"{kind}_{g}", "f": 0.75, "epochs": 4}
    layouts["first_8"] = {**layouts["stitched_8"], "real": "first"}
    mixes["first_8"] = {**mixes["stitched_8"], "layout": "first_8"}
    mixes["inside_8"] = {**mixes["stitched_8"], "training": {"attention": "documents"}}
    study = {
        "name": "planted",
        "description": "Losses that follow a known law.",
        "corpora": ["sample"],
        "validation": {"rule": "hash_share", "share": 0.2},
        "strategies": strategies,
        "layouts": layouts,
        "mixes": mixes,
        "reference": "real",
        "training": {
            "model": MODEL,
            "context": 64,
            "batch": 4,
            "block": 8,
            "seeds": [0, 1, 2],
            "reference_shares": [0.125, 0.25, 0.5],
        },
    }
    return Study.model_validate(study | changes)


def true_loss(study: Study, mix: str, share: float, name: str) -> float:
    layout = study.layouts[study.mixes[mix].layout]
    base = {"iid": 0.0, "short": -0.1, "long": 0.2, "reports": 0.9}[name]
    if layout.kind == "real":
        return LAW.loss(share * FULL) + base
    g = layout.generations or study.strategies[layout.strategy].generations
    gap = (GAP + SLOPE * np.log2(g)) * FACTOR[name] * {"simple": 0, "stitched": 1, "stretched": 2}[layout.kind]
    gap -= 0.01 if layout.real == "first" else 0.0
    return simple_loss(g) + base - gap


def rows(study: Study) -> list[dict]:
    """Of mixes.parquet, at made-up sizes."""
    found = []
    recipes = [(name, 1.0, name) for name in study.mixes]
    recipes += [(name, share, study.reference) for name, share in study.reference_recipes.items()]
    for recipe, share, mix in recipes:
        own, layout = study.mixes[mix], study.layouts[study.mixes[mix].layout]
        for synthetic in (False, True)[: 2 if own.f else 1]:
            tokens = int(FULL * ((layout.generations or 4) * 0.8 + 1 if synthetic else share))
            found.append(
                {
                    "recipe": recipe,
                    "role": "mix" if recipe in study.mixes else "reference",
                    "share": share,
                    "layout": own.layout if synthetic or not own.f else "real",
                    "is_synthetic": synthetic,
                    "fraction": own.f if synthetic else 1 - own.f,
                    "stream_tokens": tokens,
                    "stream_synthetic_tokens": tokens - FULL if synthetic else 0,
                    "passes": own.epochs * (0.7 if synthetic else 1),
                    "trained_tokens": int(tokens * own.epochs),
                }
            )
    return found


def megadoc_parts(study: Study, documents: int = 20, tokens: int = 50) -> pa.Table:
    """Of every layout: texts of so many tokens, those of a document adjacent or (simple) as far apart as can be."""
    found = []
    for name, layout in study.layouts.items():
        count = 1 + (layout.generations or 4) * (layout.kind != "real")
        texts = [(f"d{number}", g) for number in range(documents) for g in range(count)]
        if layout.kind in ("real", "simple"):
            texts = [(0, *text) for text in sorted(texts, key=lambda text: text[1])]
            texts = [(position, source, g) for position, (_, source, g) in enumerate(texts)]
        else:
            texts = [(place // count, source, g) for place, (source, g) in enumerate(texts)]
        found += [
            {"layout": name, "position": position, "part": g, "document_id": source, "tokens": tokens,
             "ends_row": layout.kind != "stretched" or g == count - 1}
            for position, source, g in texts
        ]  # fmt: skip
    return pa.Table.from_pylist(found)


def publish_mixes(study: Study, lake: Lake) -> Published:
    def write(directory: Path) -> Facts:
        pq.write_table(pa.Table.from_pylist(rows(study)), directory / "mixes.parquet")
        pq.write_table(megadoc_parts(study), directory / "megadoc_parts.parquet")
        return Facts()

    return lake.publish(f"studies/{study.name}/mixes", write)


def evaluation(streams: list[dict], mix: str, seed: int, losses: dict[str, float]) -> dict:
    """As a run publishes it, as far as the report reads it."""
    real, synthetic = streams[0], streams[1:]
    total = sum(row["trained_tokens"] for row in streams)
    buckets = [{"first": 2**i, "last": 2 ** (i + 1) - 1, "tokens": 100} for i in range(9)]
    return {
        "run": f"{real['recipe']}-s{seed}",
        "recipe": real["recipe"],
        "role": real["role"],
        "share": real["share"],
        "seed": seed,
        "losses": losses,
        "by_position": [b | {"loss": losses["iid"] + 3 / (i + 1)} for i, b in enumerate(buckets)],
        "by_length": [b | {"loss": losses["iid"] + 1 / (i + 1), "documents": 9} for i, b in enumerate(buckets)],
        "steps": 270,
        "streams": [
            {"layout": row["layout"], "sequences": round(400 * row["fraction"]), "passes": row["passes"],
             "tokens": row["stream_tokens"], "synthetic_share": row["stream_synthetic_tokens"] / row["stream_tokens"]}
            for row in streams
        ],
        "exposures": {
            real["layout"]: {"total": 0, "real": int(real["stream_tokens"] * real["passes"])},
            **{row["layout"]: {"total": 0, "real": int(FULL * row["passes"])} for row in synthetic},
        },
        "parameters": {"total": 20_000, "non_embedding": 10_000},
        "flops": 100_000 * total,
        "tokens": {"real": 1, "synthetic": 1, "total": total},
        "seconds": 14.2,
        "tokens_per_second": 39_000.0,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "processes": 1,
    }  # fmt: skip


def make_documents(rng: np.random.Generator, count: int = 240) -> pa.Table:
    """Index of made-up held-out documents: short, long, neither, and those of the set 'reports'."""
    tokens = np.exp(rng.normal(4, 0.7, count)).astype(int) + 2
    kind = np.arange(count) % 4
    return pa.table(
        {
            "document_id": [f"d{number}" for number in range(count)],
            "tokens": tokens,
            "set": ["reports" if k == 3 else None for k in kind],
            "is_short": kind == 0,
            "is_long": kind == 1,
        }
    )


def with_nats(documents: pa.Table, losses: dict[str, float], rng: np.random.Generator) -> pa.Table:
    """The documents of a run with these losses, exactly; what is neither short nor long makes up for 'iid'."""
    tokens, named = documents["tokens"].to_numpy(), np.array(documents["set"].to_pylist()) == "reports"
    groups = {name: documents[f"is_{name}"].to_numpy(zero_copy_only=False) for name in ("short", "long")}
    rest = ~named & ~groups["short"] & ~groups["long"]
    nats = tokens * rng.normal(0, SCATTER, len(tokens))
    for name, members in (*groups.items(), ("reports", named)):
        nats[members] += (losses.get(name, 0.0) - nats[members].sum() / tokens[members].sum()) * tokens[members]
    missing = losses["iid"] * tokens[~named].sum() - nats[~named].sum()
    nats[rest] += missing / tokens[rest].sum() * tokens[rest]
    return documents.append_column("nats", pa.array(nats))


def publish(
    study: Study,
    lake: Lake,
    *,
    noise: float = 0.004,
    seeds=(0, 1, 2),
    named: bool = True,
    rng: int = 4,
    documents: bool = True,
) -> dict:
    """Mixes, runs and generations of the study in the lake: what `training.analysis.report.report` is given."""
    held_out, scatter = make_documents(np.random.default_rng(rng)), np.random.default_rng(rng + 1)
    generator = np.random.default_rng(rng)
    effect, found = generator.normal(0, 0.03, 10), rows(study)
    mixes = publish_mixes(study, lake)
    sets, runs = [name for name in FACTOR if named or name != "reports"], []
    for recipe in dict.fromkeys(row["recipe"] for row in found):
        streams = [row for row in found if row["recipe"] == recipe]
        mix = recipe if recipe in study.mixes else study.reference
        for seed in seeds:
            losses = {
                name: true_loss(study, mix, streams[0]["share"], name) + effect[seed] + generator.normal(0, noise)
                for name in sets
            }
            body = json.dumps(evaluation(streams, mix, seed, losses))
            nats = with_nats(held_out, losses, scatter)

            def write(directory: Path, body=body, table=nats) -> Facts:
                (directory / "evaluation.json").write_text(body)
                if documents:
                    pq.write_table(table, directory / "documents.parquet")
                return Facts()

            name = f"studies/{study.name}/runs/{recipe}-s{seed}"
            runs.append(lake.publish(name, write, config={"body": body, "documents": documents}))
    return {"mixes": mixes, "runs": runs, "generations": publish_generations(study, lake)}


def publish_generations(study: Study, lake: Lake) -> Published:
    """One document's generations of every strategy, 90 tokens each (100 of the student's); nothing was dropped."""
    written = [
        {"strategy": name, "g": g, "model": "m", "tokens": 100, "input_tokens": 50, "output_tokens": 90}
        for name, strategy in study.strategies.items()
        for g in range(strategy.generations)
    ]
    counts = {"planned": 240, "made": 228, "documents": 60, "documents_incomplete": 3}

    def write(directory: Path) -> Facts:
        table = pa.Table.from_pylist(written)
        pq.write_table(table, directory / "generations.parquet")
        pq.write_table(table.slice(0, 0), directory / "generation_drops.parquet")
        return Facts(extra={"by_strategy": {"rephrase": counts}})

    return lake.publish(f"studies/{study.name}/generations", write)
