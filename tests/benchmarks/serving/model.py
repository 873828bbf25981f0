"""A small Llama to serve and documents to ask it about: nothing has to be fetched."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.config import Model
from palimpsest.lake import REPOSITORY, Facts, Lake, Published

SHAPE = Model(layers=4, width=256, mlp=704, heads=4, tied=True)
"""4.3 million parameters with a vocabulary of 4,096: the engine is fast, so what a client costs shows."""
VOCAB, CONTEXT = 4096, 1024


def texts() -> list[str]:
    lines = (REPOSITORY / "sample" / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def write(directory: Path, seed: int = 0) -> Path:
    """The model's folder, as `training.export` writes it, but with no token that ends a generation.

    Its weights are random: a forward pass takes as long as a trained one's, and every answer has max_tokens tokens
    whoever asks, so that all clients are paid for the same work.
    """
    from training.export import export
    from training.model import Decoder

    directory.mkdir(parents=True)
    tokenizer = directory.with_name("tokenizer.json")
    tok.train(texts(), VOCAB).save(str(tokenizer))
    export(Decoder(SHAPE, vocab=VOCAB, context=CONTEXT, seed=seed), tokenizer, directory)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        file = directory / name
        content = json.loads(file.read_text(encoding="utf-8"))
        kept = {key: value for key, value in content.items() if key not in ("eos_token_id", "eos_token")}
        file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return directory


def publish_documents(lake: Lake, count: int, tokens: int, tokenizer_file: Path, seed: int = 0) -> Published:
    """A corpus of ``count`` different texts of about ``tokens`` tokens each: the sample's sentences, shuffled."""
    tokenizer, chance = tok.load(tokenizer_file), random.Random(seed)
    sentences = sorted({s.strip() for text in texts() for s in text.split(". ") if len(s.split()) > 4})
    rows = []
    for number in range(count):
        text = f"Page {number} of {chance.getrandbits(32):x}. " + ". ".join(chance.sample(sentences, 40))
        text = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids[:tokens])
        url = f"https://bench.example/{number}"
        digests = {"text_sha256": hashlib.sha256(text.encode()).hexdigest(), "document_id": f"{number:016x}"}
        row = {"url": url, "site": "bench.example", "title": f"Page {number}", "text": text, "words": len(text.split())}
        rows.append(row | digests | {"corpus": "sample", "origin": "real", "depth": 0})

    def write_rows(directory: Path) -> Facts:
        pq.write_table(pa.Table.from_pylist(rows), directory / "documents.parquet")
        return Facts()

    return lake.publish("corpora/sample/documents", write_rows)
