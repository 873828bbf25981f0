"""A study's texts of known quality: real documents, and over each of them what is worth learning and what is not."""

from __future__ import annotations

from pydoc_data.topics import topics

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Facts, Lake

DOCUMENTS = 170
KINDS = ("good", "good", "shuffled", "boilerplate", "sampled")
"""Of every five documents' generations: two are as good as real text."""
NOTICE = "this part of the documentation may change at any time without notice and is given here for reference only ."


@pytest.fixture(scope="session")
def words():
    """Real, other real and held-out documents as words, all written the same way, and samples of a model of the real.

    Of Python's own help, which is there wherever Python is: a page of 120 words each.
    """
    vocabulary, pages = Vocabulary(), []
    for name in sorted(topics):
        spoken = topics[name].split()
        pages += [" ".join(spoken[start : start + 120]) for start in range(0, len(spoken) - 60, 120)]
    pages = list(dict.fromkeys(pages))
    chosen = np.random.default_rng(0).permutation(len(pages))[: 3 * DOCUMENTS]
    encoded = [vocabulary.encode(pages[n]) for n in chosen]
    real = encoded[:DOCUMENTS]
    drawn = Trigram(real, len(vocabulary)).sample(sum(map(len, real)), np.random.default_rng(0))
    drawn = [text for text in drawn if len(text) > 20]
    sides = [real, encoded[DOCUMENTS : 2 * DOCUMENTS], encoded[2 * DOCUMENTS :], drawn]
    return [[vocabulary.decode(text).split() for text in side] for side in sides]


@pytest.fixture(scope="session")
def planted(words):
    """(document, its text) and (document, kind, text written over it)."""
    real, other, _, drawn = words
    random = np.random.default_rng(1)
    written = []
    for n in range(DOCUMENTS):
        kind = KINDS[n % len(KINDS)]
        text = {
            "good": other[n],
            "shuffled": list(random.permutation(other[n])),
            "boilerplate": NOTICE.split() * 4 + other[n][:10],
            "sampled": drawn[n % len(drawn)],
        }[kind]
        written.append((f"d{n:03}", kind, " ".join(text)))
    return [(f"d{n:03}", " ".join(text)) for n, text in enumerate(real)], written


def publish(lake: Lake, planted, *, unknown: int = 0, reserve: int = 0, copies: int = 1, tokenizer=None):
    """Split and generations as the stages before publish them; ``unknown`` of the documents are of unknown origin."""
    real, written = planted
    train = [
        {
            "document_id": key,
            "text": text,
            "tokens": len(text.split()),
            "origin": "unknown" if n < unknown else "real",
            "is_reserve": n >= len(real) - reserve,
        }
        for n, (key, text) in enumerate(real)
    ]
    rows = [
        {"generation_id": f"{key}/{g}", "document_id": key, "strategy": "rephrase", "g": g, "text": text,
         "tokens": len(text.split())}
        for key, _, text in written for g in range(copies)
    ]  # fmt: skip

    def write(name, found):
        def inside(folder):
            pq.write_table(pa.Table.from_pylist(found), folder / f"{name}.parquet")
            if tokenizer and name == "train":
                tokenizer.save(str(folder / "tokenizer.json"))
            return Facts()

        return inside

    config = {"unknown": unknown, "reserve": reserve, "copies": copies}
    split = lake.publish("studies/small/split", write("train", train), config=config)
    found = lake.publish("studies/small/generations", write("generations", rows), config=config)
    return {"split": split, "generations": found}
