"""How well a word trigram of real text predicts each text, of what it has not learned from the text's own document.

The model is the guard's (`palimpsest.guard.trigram`). Documents fall into five folds, and what was written over one
falls with it; each fold is judged by the model of the four others, so that nothing is likely for quoting its source.
"""

from __future__ import annotations

import numpy as np

from palimpsest.guard.importance import FOLDS
from palimpsest.guard.tokens import BITS, BOUNDARY, UNKNOWN, Vocabulary
from palimpsest.guard.trigram import Trigram
from training.selection.found import Scores, by_rank
from training.selection.pool import Pool

MOST = 4_000_000
"""Tokens of real text that are learned from, so that five models fit into 0.5 GB."""


def score(pool: Pool) -> Scores:
    """Score: log-probability in nats per word or mark. Weight: by rank, mean 1, for odds of it would be all or none.

    Raises ValueError where there is too little real text to leave a fold out.
    """
    vocabulary, folds = Vocabulary(), [[] for _ in range(FOLDS)]
    learned = 0
    for texts in pool.batches("real"):
        for text in texts:
            if learned < MOST:
                folds[text.fold].append(vocabulary.encode(text.text))
                learned += len(folds[text.fold][-1])
    if sum(any(map(len, own)) for own in folds) < 2 or learned < 10 * FOLDS:
        raise ValueError(
            f"{learned:,} words of real documents are too few to judge by a model of them, left out fold by fold; "
            "give the study more documents, or select by another score"
        )
    types = len(vocabulary)
    models = [Trigram([d for other, own in enumerate(folds) if other != n for d in own], types) for n in range(FOLDS)]
    found, lengths, unseen = (np.zeros(len(pool)) for _ in range(3))
    for texts in pool.batches():
        for own in range(FOLDS):
            mine = [text for text in texts if text.fold == own]
            encoded = [vocabulary.encode(text.text, grow=False) for text in mine]
            if not mine:
                continue
            logs = np.log(models[own].probability(np.concatenate([_threes(numbers) for numbers in encoded])))
            ends = np.cumsum([len(numbers) + 1 for numbers in encoded])
            for text, numbers, part in zip(mine, encoded, np.split(logs, ends[:-1]), strict=True):
                found[text.place] = part.mean()
                lengths[text.place] = len(numbers)
                unseen[text.place] = (numbers == UNKNOWN).mean() if len(numbers) else 0.0
    features = {"log_probability": found, "unknown_words": unseen}
    return Scores(found, by_rank(found, pool.origin), features, flops=10.0 * float(lengths.sum()))


def _threes(numbers: np.ndarray) -> np.ndarray:
    """The trigrams that end in each word of a text and in its end, as the model numbers them."""
    padded = np.concatenate([[BOUNDARY, BOUNDARY], numbers, [BOUNDARY]]).astype(np.int64)
    return padded[:-2] << 2 * BITS | padded[1:-1] << BITS | padded[2:]
