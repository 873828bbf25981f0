"""A small corpus and study as real published datasets, good in every respect, and a way to spoil one table of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.config import Corpus, Study
from palimpsest.lake import Facts, Lake, Published, Rows, digest_json

WORDS = [
    a + b for a in ("bre", "ka", "lo", "mi", "nu", "pra", "sto", "ti") for b in ("d", "lin", "mor", "ne", "rak", "sel")
]
MOMENT = dt.datetime(2026, 10, 3, 12, tzinfo=dt.UTC)
BOUNDARY = "<|endoftext|>"


def prose(seed: str, words: int) -> str:
    """Text that no other seed yields."""
    chosen = random.Random(seed)
    return " ".join(chosen.choice(WORDS) for _ in range(words)) + "."


def document(name: str) -> dict:
    url = f"https://garden.example/{name}"
    text = prose(url, 80)
    return {
        "document_id": hashlib.sha256(url.encode()).hexdigest()[:16],
        "page_id": hashlib.sha256((url + "\0").encode()).hexdigest()[:16],
        "url": url,
        "site": "garden.example",
        "title": name,
        "text": text,
        "words": 80,
        "fetched_at": MOMENT,
        "day": MOMENT.date(),
        "language": "en",
        "language_score": 0.99,
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "corpus": "garden",
        "origin": "real",
        "depth": 0,
    }


DOCUMENTS = [document(f"page-{i}") for i in range(12)]
TRAIN = [{**d, "tokens": 100, "is_reserve": False} for d in DOCUMENTS[:9]]
QUOTING = {"document_id": "f" * 16, "url": "https://quoting.example/", "reason": "shares_held_out_words"}
VALIDATION = [{**d, "tokens": 100, "is_short": False, "is_long": True} for d in DOCUMENTS[9:]]
DROPS = [
    {
        "page_id": f"{i:016x}",
        "url": f"https://garden.example/short-{i}",
        "reason": "too_short",
        "rule": "gopher_quality.min_words",
        "value": 3.0,
        "threshold": 50.0,
        "duplicate_of": "" if i else "https://garden.example/page-0",
    }
    for i in range(2)
]
GENERATIONS = [
    {
        "generation_id": f"{d['document_id']}-{g}",
        "document_id": d["document_id"],
        "strategy": "rephrase",
        "kind": "rephrase",
        "g": g,
        "text": prose(f"{d['url']} rephrased {g}", 60),
        "tokens": 75,
        "finish_reason": "stop",
        "truncated": False,
        "engine": "recorded",
        "model": "sample",
        "seed": g,
        "prompt": "rephrase/encyclopedic:1",
        "prompt_sha256": "0" * 64,
        "attempt": 0,
        "parts": 1,
        "input_tokens": 140,
        "output_tokens": 75,
        "input_truncated": False,
        "defects": ["preamble"] if g else [],
        "faithfulness": 0.75,
        "origin": "synthetic",
        "depth": 1,
        "grounded": True,
        "self_consuming": False,
        "seed_document_ids": [d["document_id"]],
        "generator_mix": None,
        "decoding": None,
        "verifier": "review:0123456789ab",
        "verdict": "accepted",
    }
    for d in TRAIN
    for g in range(2)
]
GENERATION_DROPS = [
    {
        "generation_id": f"{d['document_id']}-2",
        "document_id": d["document_id"],
        "url": d["url"],
        "strategy": "rephrase",
        "kind": "rephrase",
        "g": 2,
        "reason": "refusal",
        "detail": "opens with: I cannot help",
        "defects": ["refusal", "truncated"],
        "attempt": 2,
        "parts": 1,
        "text": "I cannot help with your request.",
    }
    for d in TRAIN[:1]
]


def parts(layout: str) -> list[dict]:
    """Every row of a layout: real documents alone, or each document's rephrases and then the document."""
    rows = []
    for position, d in enumerate(TRAIN):
        own = [g for g in GENERATIONS if g["document_id"] == d["document_id"]] if layout == "stitched" else []
        texts = [(g["kind"], g["g"], g["text"], 76) for g in own] + [("real", None, d["text"], 101)]
        rows += [
            {
                "layout": layout,
                "position": position,
                "megadoc_id": d["document_id"],
                "part": part,
                "kind": kind,
                "document_id": d["document_id"],
                "g": g,
                "text": text,
                "tokens": tokens,
                "ends_row": True,
                "domain": d["site"],
                "origin": "real" if kind == "real" else "synthetic",
                "depth": int(kind != "real"),
                "grounded": kind != "real",
                "self_consuming": False,
            }
            for part, (kind, g, text, tokens) in enumerate(texts)
        ]
    return rows


def megadocs(rows: list[dict]) -> list[dict]:
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        found.setdefault((row["layout"], row["position"]), []).append(row)
    return [
        {
            "layout": layout,
            "position": position,
            "megadoc_id": own[0]["megadoc_id"],
            "document_id": own[0]["document_id"],
            "text": "".join(r["text"] + BOUNDARY for r in own),
            "parts": len(own),
            "tokens": sum(r["tokens"] for r in own),
            "real_tokens": sum(r["tokens"] for r in own if r["kind"] == "real"),
            "synthetic_tokens": sum(r["tokens"] for r in own if r["kind"] != "real"),
            "unknown_tokens": 0,
            "depth": max(r["depth"] for r in own),
        }
        for (layout, position), own in found.items()
    ]


def mix(recipe: str, layout: str, fraction: float, tokens: int, synthetic: int, sequences: int, total: int) -> dict:
    return {
        "recipe": recipe,
        "role": "mix",
        "share": 1.0,
        "layout": layout,
        "is_synthetic": layout != "real",
        "fraction": fraction,
        "stream_megadocs": len(TRAIN),
        "stream_tokens": tokens,
        "stream_real_tokens": tokens - synthetic,
        "stream_synthetic_tokens": synthetic,
        "windows": -(-tokens // 16),
        "epochs": 4.0,
        "steps_per_real_epoch": 14,
        "steps": total // 4,
        "sequences": total,
        "stream_sequences": sequences,
        "passes": sequences / -(-tokens // 16),
        "realised_fraction": sequences / total,
        "trained_tokens": sequences * 16,
    }


def share(recipe: str, origin: str, tokens: float, whole: float) -> dict:
    return {
        "recipe": recipe,
        "role": "mix",
        "domain": "garden.example",
        "origin": origin,
        "depth": int(origin == "synthetic"),
        "grounded": origin == "synthetic",
        "self_consuming": False,
        "trained_tokens": tokens,
        "recipe_share": tokens / whole,
        "domain_share": tokens / whole,
    }


REAL, STITCHED = len(TRAIN) * 101, len(TRAIN) * (101 + 2 * 76)
PARTS = parts("real") + parts("stitched")
TABLES = {
    "pages": [{"page_id": row["page_id"], "url": row["url"]} for row in [*DOCUMENTS, *DROPS]],
    "documents": DOCUMENTS,
    "document_drops": DROPS,
    "train": TRAIN,
    "validation": VALIDATION,
    "split_drops": [QUOTING],
    "generations": GENERATIONS,
    "generation_drops": GENERATION_DROPS,
    "megadoc_parts": PARTS,
    "megadocs": megadocs(PARTS),
    "mixes": [
        mix("real", "real", 1.0, REAL, 0, 224, 224),
        mix("stitched", "real", 0.25, REAL, 0, 56, 224),
        mix("stitched", "stitched", 0.75, STITCHED, STITCHED - REAL, 168, 224),
    ],
    "mix_shares": [
        share("real", "real", 3584.0, 3584),
        share("stitched", "real", 896 + 2688 * 101 / 253, 3584),
        share("stitched", "synthetic", 2688 * 152 / 253, 3584),
    ],
}
STAGES = {
    "documents": ("documents", "document_drops"),
    "split": ("train", "validation", "split_drops"),
    "generations": ("generations", "generation_drops"),
    "mixes": ("megadoc_parts", "megadocs", "mixes", "mix_shares"),
}


def typed(name: str, rows: list[dict]) -> pa.Table:
    """The rows as they are, but a column of nothing but nulls keeps the type it has in the good table."""
    table, good = pa.Table.from_pylist(rows), pa.Table.from_pylist(TABLES[name]).schema
    fields = [good.field(f.name) if pa.types.is_null(f.type) else f for f in table.schema]
    return table.cast(pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in fields]))


Spoil = Callable[[str, list[dict]], list[dict]]
"""(table, its rows) → the rows to publish in their place."""


@dataclass
class World:
    """Everything a gate reads, published in one lake."""

    lake: Lake
    corpus: Corpus
    study: Study

    def publish(self, spoil: Spoil = lambda table, rows: rows) -> dict[str, Published]:
        tables = {name: typed(name, spoil(name, [dict(r) for r in rows])) for name, rows in TABLES.items()}
        kept, lost = len(TABLES["documents"]), len(TABLES["document_drops"])
        made, defective = len(TABLES["generations"]), len(TABLES["generation_drops"])
        rows = {
            "documents": Rows(kept + lost, kept, {"too_short": lost}),
            "split": Rows(kept + 1, len(TRAIN), {"held_out": len(VALIDATION), QUOTING["reason"]: 1}),
            "generations": Rows(made + defective, made, {"refusal": defective}),
        }
        pages = self._dataset("corpora/garden/pages/2026-10-03", tables, ("pages",))
        found = {}
        for stage, files in STAGES.items():
            home = "corpora/garden" if stage == "documents" else "studies/toy"
            parents = {"documents": [pages], "split": [found.get("documents")]}.get(stage, [])
            found[stage] = self._dataset(f"{home}/{stage}", tables, files, rows.get(stage), parents)
        return found

    def _dataset(
        self, name: str, tables: dict, files: tuple[str, ...], rows: Rows | None = None, parents=()
    ) -> Published:
        def write(directory: Path) -> Facts:
            for file in files:
                pq.write_table(tables[file], directory / f"{file}.parquet")
            return Facts(rows)

        content = {file: [str(tables[file].schema), repr(tables[file].to_pylist())] for file in files}
        return self.lake.publish(name, write, config={"content": digest_json(content)}, parents=parents)


@pytest.fixture
def world(lake: Lake) -> World:
    corpus = {
        "name": "garden",
        "description": "Twelve pages.",
        "source": {"files": ["none.warc.gz"]},
        "start": "2026-10-03",
        "end": "2026-10-03",
        "path": Path("dags/corpora/garden.yaml"),
    }
    engine = {"kind": "recorded", "file": "none.jsonl"}
    study = {
        "name": "toy",
        "description": "Two layouts, two mixes.",
        "corpora": ["garden"],
        "validation": {"rule": "sites", "sites": ["none"]},
        "strategies": {"rephrase": {"kind": "rephrase", "generations": 3, "engine": engine}},
        "layouts": {"real": {"kind": "real"}, "stitched": {"kind": "stitched", "strategy": "rephrase"}},
        "mixes": {"real": {"layout": "real", "epochs": 4}, "stitched": {"layout": "stitched", "f": 0.75, "epochs": 1}},
        "reference": "real",
        "guard": {"thresholds": {"synthetic_grounded_max": 0.5}},
        "training": {"model": {"layers": 1, "width": 16, "mlp": 32, "heads": 2}, "context": 16, "batch": 4},
        "path": Path("dags/studies/toy.yaml"),
    }
    return World(lake, Corpus.model_validate(corpus), Study.model_validate(study))
