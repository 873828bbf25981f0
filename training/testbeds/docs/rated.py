"""Meta-rater with word trigrams for proxies: the mixture of cheap scores whose choice a trigram learns most from.

As in a study (`training.selection.proxies`), but that a proxy is a trigram, a second's work, in place of a small neural
model: the very learner that all arms are judged by, which no other score has seen. What is vouched for in one fold is
what proxies are judged by; that fold takes no part in the scores that choose.
"""

from __future__ import annotations

import math

import numpy as np

from palimpsest.guard.trigram import Trigram
from training.selection import meta_rater, proxies
from training.selection.found import Scores, by_rank, ranks
from training.selection.methods import CHEAP
from training.selection.pool import Pool
from training.selection.target import TARGET
from training.testbeds.docs.arms import BUDGET, Bench

NAME = "Meta-rater, trigrams"
SCORES = tuple(CHEAP)
PROXIES = 32


def score(bench: Bench) -> Scores:
    """Score: the weighted mean of ranks, by the weights that proxies come out best with."""
    whole, pool = bench.pool, bench.pool.without(TARGET)
    vouched = [text.text for texts in whole.batches("real") for text in texts if text.fold == TARGET]
    target = [bench.vocabulary.encode(text) for text in vouched]
    written = dict(zip(whole.rows["id"].take(bench.places).to_pylist(), bench.encoded, strict=True))
    texts = [written.get(key) for key in pool.rows["id"].to_pylist()]

    paid: list[float] = []

    def rated(own: Pool) -> np.ndarray:
        found = [CHEAP[name](own) for name in SCORES]
        paid.extend(one.flops for one in found)
        return np.column_stack([ranks(one.score, own.origin) for one in found])

    def loss(score: np.ndarray) -> float:
        """Nats per word of the target, under a trigram of what the score keeps."""
        kept = [texts[place] for place in np.flatnonzero(proxies.kept(pool, score, BUDGET))]
        return math.log(Trigram(kept, len(bench.vocabulary)).perplexity(target))

    raters, weights = rated(pool), proxies.drawn(len(SCORES), PROXIES, bench.seed)
    best, figures = meta_rater.search(weights, np.array([loss(raters @ own) for own in weights]), bench.seed)
    found = rated(whole) @ best
    figures = {f"weight of {name}": float(value) for name, value in zip(SCORES, best, strict=True)} | figures
    return Scores(found, by_rank(found, whole.origin), figures=figures, flops=sum(paid))
