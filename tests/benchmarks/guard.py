"""The collapse guard over ten million tokens: seconds on one core, beside `diversity` where it computes the same.

The texts are what a trigram of CPython's own text writes, so that every machine has them. ``diversity`` is not among
the platform's packages; where it is installed (``pip install diversity``) its figures stand beside ours.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from palimpsest.guard.copying import self_bleu
from palimpsest.guard.corpus import cpython_documents, held_out
from palimpsest.guard.distance import distance
from palimpsest.guard.diversity import BLOCK, Blocks
from palimpsest.guard.judge import judge
from palimpsest.guard.measure import Reference, watch
from palimpsest.guard.probe import additive_probe
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trigram import Trigram

TOKENS = 10_000_000
PEER = importlib.util.find_spec("diversity") is not None


def run() -> list[dict]:
    with threadpool_limits(1):
        return _run()


def _run() -> list[dict]:
    vocabulary = Vocabulary()
    real, test = held_out([vocabulary.encode(text) for text in cpython_documents()], 0.2, 0)
    model = Trigram(real, len(vocabulary))
    first, second = (model.sample(TOKENS, np.random.default_rng(seed)) for seed in (0, 1))
    left, right = ([vocabulary.decode(document) for document in part] for part in (first, second))
    unseen = [vocabulary.decode(document) for document in test]
    found: list[dict] = []

    def timed(name: str, work: Callable[[], object], peer: float | None = None) -> object:
        start = time.perf_counter()
        result = work()
        found.append({"name": f"guard: {name}", "ours": time.perf_counter() - start, "peer": peer, "unit": "s"})
        return result

    reference = timed("10M real tokens read once", lambda: Reference(left, vocabulary=Vocabulary()))
    timed(
        "G8 to G10, 10M synthetic tokens",
        lambda: judge(watch(right, reference, held_out=unseen), DEFAULTS, "texts"),
    )
    half = [part[: _first(part, TOKENS // 2)] for part in (first, second)]
    timed("G7, 5M real and 5M synthetic tokens, 3 seeds", lambda: additive_probe(*half, {"": test}, len(vocabulary)))
    timed("classifier, MMD and Vendi with their nulls", lambda: distance(left, right))
    few = right[:200]
    timed("self-BLEU of 200 texts", lambda: self_bleu(few), _peer("homogenization_score", few))
    some = right[: _first(second, 1_000_000)]
    timed("diversity of 1M tokens in blocks", lambda: _blocks(some, vocabulary), _peer("compression_ratio", some))
    return found


def _first(documents: list[np.ndarray], tokens: int) -> int:
    """How many of the documents are so many tokens."""
    return int(np.searchsorted(np.cumsum([len(document) for document in documents]), tokens)) + 1


def _blocks(texts: list[str], vocabulary: Vocabulary) -> Blocks:
    blocks = Blocks(BLOCK)
    for text in texts:
        blocks.add(text, vocabulary.encode(text))
    return blocks


def _peer(name: str, texts: list[str]) -> float | None:
    """Seconds that `diversity` takes: self-BLEU, or the compression ratio and distinct-n of up to three."""
    if not PEER:
        return None
    import diversity

    start = time.perf_counter()
    if name == "homogenization_score":
        diversity.homogenization_score(texts, "bleu")
    else:
        diversity.compression_ratio(texts, "gzip")
        diversity.ngram_diversity_score(texts, 3)
    return time.perf_counter() - start
