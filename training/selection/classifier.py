"""A linear classifier of hashed word n-grams, real text against the rest of the pool (DCLM, 2406.11794).

DCLM's is fastText on words and bigrams, with text known to be good against web text, ranked by its probability; this
one is a logistic regression on as many hashed counts, which needs no further library. Good is what people wrote;
the pool is what was generated, and documents of unknown origin. Each text is judged by a classifier that has seen
neither it nor its document (five folds), or every document would pass for itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from palimpsest.guard.importance import FOLDS
from training.selection.found import Scores, by_rank
from training.selection.pool import Pool, Text

FEATURES = 1 << 18
LEARNED = 20_000
"""Texts a side that are learned from, at most."""
LEAST = 25
"""Texts a side below which nothing is told: 20 to learn from, 5 to judge."""
ITERATIONS = 200


def score(pool: Pool) -> Scores:
    """Score: log-odds that the text is real. Weight: by rank, mean 1, for odds of it would be all or none.

    Raises ValueError where a side has too few texts.
    """
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    turn = HashingVectorizer(
        ngram_range=(1, 2), n_features=FEATURES, alternate_sign=False, token_pattern=r"\w+|[^\w\s]", norm="l2"
    )
    learned, labels, folds = [], [], []
    shares = {side: min(1.0, LEARNED / max(1, count)) for side, count in _sides(pool).items()}
    for texts in pool.batches():
        mine = [text for text in texts if _lot(pool, text) < shares[text.origin == "real"] and text.text.strip()]
        if mine:
            learned.append(turn.transform([text.text for text in mine]))
            labels += [text.origin == "real" for text in mine]
            folds += [text.fold for text in mine]
    real, fold = np.array(labels, bool), np.array(folds)
    for side, name in ((real, "real"), (~real, "generated or unknown")):
        if side.sum() < LEAST or min((side & (fold != own)).sum() for own in range(FOLDS)) < LEAST * 4 // 5:
            raise ValueError(
                f"{side.sum()} {name} texts are too few to learn from, fold by fold: {LEAST} over as many documents "
                "are needed; give the study more, or select by another score"
            )
    grams = vstack(learned, format="csr")
    models, steps = [], 0
    for own in range(FOLDS):
        # by coordinates, in the dual: passes over what is not 0, where lbfgs works on all 2^18 weights at each step
        model = LogisticRegression(
            C=10.0,
            class_weight="balanced",
            solver="liblinear",
            dual=True,
            tol=1e-3,
            max_iter=ITERATIONS,
            random_state=0,
        )
        models.append(model.fit(grams[fold != own], real[fold != own]))
        steps += int(model.n_iter_[0])
    found, seen = np.zeros(len(pool)), 0
    for texts in pool.batches():
        for own, mine in _by_fold(texts):
            rows = turn.transform([text.text for text in mine])
            seen += rows.nnz
            found[[text.place for text in mine]] = models[own].decision_function(rows)
    arithmetic = 4.0 * grams.nnz * steps * (FOLDS - 1) / FOLDS + 2.0 * seen
    return Scores(found, by_rank(found, pool.origin), {"log_odds": found}, flops=arithmetic)


def _sides(pool: Pool) -> dict[bool, int]:
    real = int((pool.origin == "real").sum())
    return {True: real, False: len(pool) - real}


def _lot(pool: Pool, text: Text) -> float:
    """The text's own number from 0 to 1, so that who is learned from hangs on nothing but the texts."""
    key = f"{pool.rows['strategy'][text.place].as_py()}:{pool.rows['id'][text.place].as_py()}"
    return int(hashlib.sha256(f"learn:{key}".encode()).hexdigest()[:8], 16) / 2**32


def _by_fold(texts: list[Text]) -> Iterator[tuple[int, list[Text]]]:
    for own in range(FOLDS):
        mine = [text for text in texts if text.fold == own]
        if mine:
            yield own, mine
