"""N-gram commonness: how much of a text stands elsewhere in the pool too (SoftDedup, He et al. 2024, 2407.06654).

The commonness of a text is the geometric mean of its words' probabilities under an n-gram model of the pool without
that text: what stands in other texts too is common, and gets a lower weight. In the paper the model has read the text
itself, which hardly counts in a corpus of billions of words; in a small pool it would be nearly all that is counted,
and a text like no other would look like the commonest. So its own counts are taken off, of an n-gram and of its
context. The paper takes 4-grams with Kneser-Ney smoothing and weights by segments; here counts of 1 to 4 words
interpolate (`SHARES`), hashed into tables of fixed size, so that memory does not grow with the pool, and the weight is
continuous. A context that stands in no other text adds nothing to the shorter ones; a word that stands in none counts
as seen once. Two passes over the text.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

from palimpsest.words import WORD
from training.selection.found import Scores, scaled
from training.selection.pool import Pool

ORDER = 4
BUCKETS = 1 << 22
"""Per order; 16 MB each. Two n-grams that meet in one look commoner than they are: one in two hundred where 20,000
stand in a table, four in ten where two million do."""
SHARES = np.array([0.1, 0.2, 0.3, 0.4])
"""Weight of each order, one word to four."""
RATIO = 10.0
"""The rarest text weighs at most so many times what the commonest does, or one odd page would be all that is drawn."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def score(pool: Pool) -> Scores:
    """Score: minus the commonness, in nats per word. Weight: 1 / commonness, at most `RATIO` apart within an origin."""
    counts = [np.zeros(BUCKETS, np.uint32) for _ in range(ORDER)]
    words = 0
    for texts in pool.batches():
        for text in texts:
            numbers = hashed(text.text)
            words += len(numbers)
            for table, grams in zip(counts, places(numbers), strict=True):
                np.add.at(table, grams, 1)
    common, lengths = np.zeros(len(pool)), np.zeros(len(pool))
    for texts in pool.batches():
        for text in texts:
            numbers = hashed(text.text)
            lengths[text.place] = len(numbers)
            common[text.place] = _mean_log(numbers, counts, words)
    weight = np.ones(len(pool))
    for name in set(pool.origin):
        own = pool.origin == name
        least = np.median(common[own])
        half = np.log(RATIO) / 2
        weight[own] = np.exp(-np.clip(common[own] - least, -half, half))
    features = {"commonness": common, "words": lengths}
    return Scores(-common, scaled(weight, pool.origin), features, flops=4.0 * ORDER * words)


def hashed(text: str) -> np.ndarray:
    """The words of a text as 64-bit numbers, their case lowered; the same in every process."""
    found = WORD.findall(text.lower())
    return np.fromiter((crc32(word.encode()) + 1 for word in found), np.uint64, len(found))


def places(numbers: np.ndarray) -> list[np.ndarray]:
    """By order the bucket of each n-gram, in the order of the words they end in."""
    found, run = [], np.zeros(0, np.uint64)
    for order in range(1, ORDER + 1):
        run = numbers if order == 1 else run[:-1] * MULTIPLIER + numbers[order - 1 :]
        mixed = (run ^ (run >> np.uint64(29))) * MULTIPLIER
        found.append((mixed >> np.uint64(42)).astype(np.int64))
    return found


def _mean_log(numbers: np.ndarray, counts: list[np.ndarray], words: int) -> float:
    """Mean log probability of the words of a text; that of a text without words is that of one word seen once."""
    if not len(numbers):
        return -np.log(max(words, 1))
    seen = [_elsewhere(table, grams) for table, grams in zip(counts, places(numbers), strict=True)]
    found = SHARES[0] * np.maximum(seen[0] / max(words - len(numbers), 1), 1 / words)
    for order in range(1, ORDER):
        share = np.zeros(len(numbers))
        if len(numbers) > order:
            share[order:] = seen[order] / np.maximum(seen[order - 1][: len(seen[order])], 1)
            found += SHARES[order] * np.minimum(share, 1)
    return float(np.log(found).mean())


def _elsewhere(table: np.ndarray, grams: np.ndarray) -> np.ndarray:
    """How often each n-gram of a text stands in the other texts."""
    _, which, own = np.unique(grams, return_inverse=True, return_counts=True)
    return table[grams].astype(np.float64) - own[which]
