"""Pointwise Value Matching: which texts a model of the target would rather have than one of the pool does.

From one start two short trainings: U on the pool, W on the target and alpha times the pool. A text's value is its loss
under U minus its loss under W (Du et al. 2026, 2610.02092); a regression of it on hashed words scores every text, also
those that no model has read. No hypergradient: two trainings, a pass over the pool, a sparse regression.

The target is a fifth of the documents that people wrote, by a hash of their ids. Nothing that stands over one of these
takes part in either training's pool or in the regression: it would be of value for quoting the target. Every other
text is scored by what was learned from the texts of other documents.
"""

from __future__ import annotations

import numpy as np

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.guard.importance import FOLDS
from training.selection.found import Scores, by_rank
from training.selection.pool import Pool
from training.selection.short import Trainer

FEATURES = 1 << 16
TARGET = 0
"""The fold whose real documents are the target."""
LEAST = 10
"""Texts of the target, and texts to learn from in each fold."""


def score(pool: Pool, study: Study, tokenizer: tok.Tokenizer) -> Scores:
    """Score: value in nats per token, as the regression has it. Weight: by rank. Features: the measured value, what the
    text costs under U and under W, none of them for texts over the target's documents.

    Raises ValueError for too little text, or models that diverge.
    """
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import Ridge

    asked = study.selection.pvm
    turn = HashingVectorizer(
        ngram_range=(1, 2), n_features=FEATURES, alternate_sign=False, token_pattern=r"\w+|[^\w\s]", norm="l2"
    )
    encoded, grams, folds = [], [], []
    for texts in pool.batches():
        found = tokenizer.encode_batch_fast([text.text for text in texts], add_special_tokens=False)
        encoded += [np.asarray(encoding.ids, np.int32) for encoding in found]
        grams.append(turn.transform([text.text for text in texts]))
        folds += [text.fold for text in texts]
    rows, fold = vstack(grams, format="csr"), np.array(folds)
    learned = fold != TARGET
    target = (fold == TARGET) & (pool.origin == "real")
    fewest = min(int((fold == own).sum()) for own in range(FOLDS) if own != TARGET)
    if min(int(target.sum()), fewest) < LEAST:
        raise ValueError(
            f"{int(target.sum())} documents of the target and {fewest} texts in the smallest fold are too few, "
            f"{LEAST} each are needed; give the study more documents, or select by another score"
        )
    trainer = Trainer(study, asked, tokenizer.get_vocab_size(), tokenizer.token_to_id(tok.BOUNDARY))
    of_pool = [encoded[place] for place in np.flatnonzero(learned)]
    of_target = [encoded[place] for place in np.flatnonzero(target)]
    first = trainer.train("PVM, the pool", {"pool": of_pool})
    share = asked.alpha / (1 + asked.alpha)
    second = trainer.train("PVM, the target", {"target": of_target, "pool": of_pool}, f=share)
    under = [np.full(len(pool), np.nan) for _ in range(2)]
    for losses, model in zip(under, (first, second), strict=True):
        losses[learned] = trainer.losses(model, of_pool)
    value = under[0] - under[1]
    predicted = np.zeros(len(pool))
    for own in range(FOLDS):
        mine = learned & (fold != own)
        predicted[fold == own] = Ridge(alpha=asked.ridge).fit(rows[mine], value[mine]).predict(rows[fold == own])
    training, reading = trainer.flops(first, sum(len(text) + 1 for text in of_pool))
    features = {"value": value, "loss_pool": under[0], "loss_target": under[1]}
    return Scores(predicted, by_rank(predicted, pool.origin), features, flops=2 * (training + reading))
