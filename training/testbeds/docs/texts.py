"""``testbeds/docs/texts``: CPython's documentation, half of what is chosen from made worse in ways that are known.

A fifth of the documents is the test; of the others a tenth is what people vouch for (the validation set of the method
that learns weights), the rest is the pool. Half of the pool is degraded, as many texts in each of eight ways
(`training.testbeds.docs.degrade`). All texts are written the same way, words and marks with single spaces, so that
nothing is told by its layout. Columns and files are those of a study's split and generations: what is vouched for are
documents, the pool are generations of one strategy, each over a document of its own.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import tokenizer as tok
from palimpsest.guard.corpus import cpython_documents, held_out
from palimpsest.guard.tokens import Vocabulary, size
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Facts, Lake, Published
from training.selection.keys import TOKENIZER
from training.testbeds.docs.degrade import GRADES, Grades, Words, Worse

TEST, VOUCHED, DEGRADED = 0.2, 0.1, 0.5
"""Shares: of all documents, of the others, of the pool."""
SHORTEST = 5
"""Words of a sample."""
VOCABULARY = 1024
"""Tokens that small neural models see."""
CODE = (
    "training/testbeds/docs/degrade.py",
    "training/testbeds/docs/texts.py",
    *(f"plugins/palimpsest/guard/{name}.py" for name in ("corpus", "tokens", "trigram")),
    TOKENIZER,
)
DATASET = "testbeds/docs/texts"
WORTH = {kind: grade for kind, (grade, _) in GRADES.items()}


@dataclass(frozen=True)
class Texts:
    """One seed's texts."""

    test: list[str]
    vouched: list[str]
    pool: list[str]
    kind: list[str]
    """Of each of the pool, a key of the grades."""
    document: list[int]
    """Over which of the pool's documents each stands."""


Encoded = Sequence[np.ndarray]
Generate = Callable[[Encoded, Encoded, int, Vocabulary, np.random.Generator], Mapping[str, list[Words]]]
"""From what is vouched for, the pool before it is degraded, and a count: as many texts of each generated kind."""


def draw(documents: Sequence[str], seed: int, grades: Grades = GRADES, generate: Generate | None = None) -> Texts:
    """The texts of a seed; ``generate`` by default samples a model of the pool.

    Raises ValueError for documents too few to have every kind.
    """
    vocabulary = Vocabulary()
    random = np.random.default_rng([seed, 11])
    learned, test = held_out([vocabulary.encode(text) for text in documents], TEST, seed)
    order = random.permutation(len(learned))
    count = round(VOUCHED * len(learned))
    vouched, pool = ([learned[place] for place in part] for part in (order[:count], order[count:]))
    kinds = [kind for kind in grades if kind != "clean"]
    each = round(DEGRADED * len(pool) / len(kinds))
    if not each or not count:
        raise ValueError(f"{len(documents)} documents are too few for a test, and every kind of text; give more")
    kind = np.array([*np.repeat(kinds, each), *["clean"] * (len(pool) - each * len(kinds))], dtype=object)
    generated = (generate or _sampled)(vouched, pool, each, vocabulary, random)
    spoken = [[vocabulary.words[number] for number in text] for text in pool]
    texts = [
        generated[own].pop() if own in generated else _made(grades[own][1], words, random)
        for own, words in zip(kind, spoken, strict=True)
    ]
    shown = random.permutation(len(texts))  # or the order would tell the kind
    return Texts(
        [vocabulary.decode(text) for text in test],
        [vocabulary.decode(text) for text in vouched],
        [" ".join(texts[place]) for place in shown],
        [kind[place] for place in shown],
        list(range(len(texts))),
    )


def publish(lake: Lake, seed: int, documents: Sequence[str] | None = None) -> Published:
    """What `save` writes, of a seed; ``documents``: others than CPython's."""

    def write(directory: Path) -> Facts:
        return save(draw(documents or cpython_documents(), seed), WORTH, directory)

    config = _config(seed) | ({"documents": len(documents)} if documents else {})
    return lake.publish(DATASET, write, config=config, code=CODE)


def known(lake: Lake, seed: int) -> Published | None:
    """The texts of a seed, if this code has published them."""
    return lake.version(DATASET, config=_config(seed), code=CODE)


def _config(seed: int) -> dict[str, object]:
    return {"seed": seed, "python": platform.python_version()}


def save(found: Texts, grades: Mapping[str, float], directory: Path, *, clean: Collection[str] = ("clean",)) -> Facts:
    """train.parquet (what is vouched for), generations.parquet (the pool, with ``kind``, ``grade`` and ``clean``: is it
    of one of these kinds?), test.parquet, tokenizer.json.
    """
    vouched = [
        {"document_id": f"v{n:05}", "origin": "real", "is_reserve": False, "text": text, "tokens": len(text.split())}
        for n, text in enumerate(found.vouched)
    ]
    over: Counter[int] = Counter()
    pool = []
    for text, kind, document in zip(found.pool, found.kind, found.document, strict=True):
        key, g = f"p{document:05}", over[document]
        over[document] += 1
        own = {"generation_id": f"{key}/{g}", "document_id": key, "strategy": "pool", "g": g, "text": text}
        known = {"kind": kind, "grade": grades[kind], "clean": kind in clean}
        pool.append(own | {"tokens": len(text.split())} | known)
    for name, rows in (("train", vouched), ("generations", pool), ("test", [{"text": t} for t in found.test])):
        pq.write_table(pa.Table.from_pylist(rows), directory / f"{name}.parquet")
    tok.train([*found.vouched, *found.pool], VOCABULARY).save(str(directory / "tokenizer.json"))
    return Facts(extra={"vouched": len(vouched), "pool": len(pool), "test": len(found.test)})


def _made(worse: Worse | None, words: Words, random: np.random.Generator) -> Words:
    return worse(words, random) if worse else words


def _sampled(
    vouched: Encoded, pool: Encoded, each: int, vocabulary: Vocabulary, random: np.random.Generator
) -> dict[str, list[Words]]:
    """Texts of a word trigram of the pool before it was degraded, and of one of what that wrote."""
    found, source = {}, pool
    for kind in ("sampled once", "sampled twice"):
        source = Trigram(source, len(vocabulary)).sample(size(pool), random)
        kept = [text for text in source if len(text) >= SHORTEST][-each:]
        found[kind] = [[vocabulary.words[number] for number in text] for text in kept]
    if min(map(len, found.values())) < each:
        raise ValueError(f"a word trigram of {len(pool)} documents wrote fewer than {each} texts; give more documents")
    return found
