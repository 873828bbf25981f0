"""The collapse guard over ten million tokens: seconds on one core, beside others that compute the same.

The texts are what a trigram of CPython's own text writes, so that every machine has them. The peers are not among the
platform's packages: their figures stand beside ours where `diversity` and `sacrebleu` are installed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from palimpsest.guard.copying import self_bleu
from palimpsest.guard.corpus import cpython_documents, held_out
from palimpsest.guard.distance import distance
from palimpsest.guard.diversity import BLOCK, Blocks
from palimpsest.guard.judge import judge
from palimpsest.guard.measure import Reference, watch, watch_parts
from palimpsest.guard.probe import additive_probe
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trigram import Trigram

TOKENS = 10_000_000
DOMAINS = 8


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

    known = Vocabulary()
    reference = timed("10M real tokens read once", lambda: Reference(left, vocabulary=known))
    domains = timed(
        f"the same, each of {DOMAINS} domains by itself",
        lambda: [Reference(left[place::DOMAINS], vocabulary=known) for place in range(DOMAINS)],
    )
    timed(
        "G8 to G10, 10M synthetic tokens",
        lambda: judge(watch(right, reference, held_out=unseen), DEFAULTS, "texts"),
    )
    own = {str(place): domain for place, domain in enumerate(domains)}
    parted = [(str(place % DOMAINS), text) for place, text in enumerate(right)]

    def judged() -> None:
        whole, parts = watch_parts(parted, reference, own, held_out=unseen)
        for found in (whole, *parts.values()):
            judge(found, DEFAULTS, "texts")

    timed("the same, and of each domain by itself", judged)
    half = [part[: _first(part, TOKENS // 2)] for part in (first, second)]
    timed("G7, 5M real and 5M synthetic tokens, 3 seeds", lambda: additive_probe(*half, {"": test}, len(vocabulary)))
    timed("classifier, MMD and Vendi with their nulls", lambda: distance(left, right))
    few = right[:200]
    timed("self-BLEU of 200 texts", lambda: self_bleu(few), _sacrebleu(few))
    some = right[: _first(second, 1_000_000)]
    timed("diversity of 1M tokens in blocks", lambda: _blocks(some, vocabulary), _diversity(some))
    return found


def _first(documents: list[np.ndarray], tokens: int) -> int:
    """How many of the documents are so many tokens."""
    return int(np.searchsorted(np.cumsum([len(document) for document in documents]), tokens)) + 1


def _blocks(texts: list[str], vocabulary: Vocabulary) -> Blocks:
    blocks = Blocks(BLOCK)
    for text in texts:
        blocks.add(text, vocabulary.encode(text))
    return blocks


def _diversity(texts: list[str]) -> float | None:
    """Seconds that `diversity` takes for the compression ratio and distinct-n of up to three."""
    spec = importlib.util.find_spec("diversity")
    if spec is None or importlib.util.find_spec("nltk") is None:
        return None
    start = time.perf_counter()
    # by file: the package as a whole imports models of hundreds of megabytes
    folder = Path(spec.submodule_search_locations[0])
    _loaded(folder / "compression.py").compression_ratio(texts, "gzip")
    _loaded(folder / "ngram_diversity.py").ngram_diversity_score(texts, 3)
    return time.perf_counter() - start


def _sacrebleu(texts: list[str]) -> float | None:
    """Seconds that `sacrebleu` takes for the BLEU of each text against the rest."""
    if importlib.util.find_spec("sacrebleu") is None:
        return None
    import sacrebleu

    start = time.perf_counter()
    for place, text in enumerate(texts):
        sacrebleu.sentence_bleu(text, texts[:place] + texts[place + 1 :], tokenize="none")
    return time.perf_counter() - start


def _loaded(file: Path):
    spec = importlib.util.spec_from_file_location(f"peer_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
