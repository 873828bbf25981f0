"""Pointwise Value Matching: which texts a model of the target would rather have than one of the pool does.

From one start two short trainings: U on the pool, W on the target and alpha times the pool. A text's value is its loss
under U minus its loss under W (Du et al. 2026, 2610.02092); a regression of it on hashed words scores every text, also
those that no model has read. No hypergradient: two trainings, a pass of each over the pool, a sparse regression.

The target is a fifth of the documents that people wrote, by a hash of their ids. Nothing that stands over one of these
takes part in either training's pool or in the regression: it would be of value for quoting the target. Every other
text is scored by what was learned from the texts of other documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, vstack
from scipy.stats import spearmanr

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.guard.importance import FOLDS
from training.selection.found import Scores, by_rank
from training.selection.pool import Pool
from training.short import Trainer

FEATURES = 1 << 16
TARGET = 0
"""The fold whose real documents are the target."""
LEAST = 10
"""Texts of the target, and texts to learn from in each fold."""


def score(pool: Pool, study: Study, tokenizer: tok.Tokenizer) -> Scores:
    """Score: value in nats per token, as the regression has it. Weight: by rank, mean 1.

    Features: the measured value and what the text costs under U and under W, nothing for texts over the target's
    documents. Figures: what the models cost on the target and the pool, how often W read the target, and how the
    regression ranks texts that it has not learned from, against their measured values.

    Raises ValueError for too little text, or models that diverge.
    """
    asked = study.selection.pvm
    encoded, grams, fold = _read(pool, tokenizer)
    learned, target = fold != TARGET, (fold == TARGET) & (pool.origin == "real")
    fewest = min(int((fold == own).sum()) for own in range(FOLDS) if own != TARGET)
    if min(int(target.sum()), fewest) < LEAST:
        raise ValueError(
            f"{int(target.sum())} documents of the target and {fewest} texts in the smallest fold are too few, "
            f"{LEAST} each are needed; give the study more documents, or select by another score"
        )
    of_pool, of_target = ([encoded[place] for place in np.flatnonzero(side)] for side in (learned, target))
    trainer = Trainer(study, asked, tokenizer.get_vocab_size(), tokenizer.token_to_id(tok.BOUNDARY))
    share = asked.alpha / (1 + asked.alpha)
    streams = {"pool": ({"pool": of_pool}, 0.0), "target": ({"target": of_target, "pool": of_pool}, share)}
    models = {}
    for name, (texts, f) in streams.items():
        models[name], loss = trainer.train(f"PVM, the {name}", texts, seed=asked.seed, f=f)
        if not np.isfinite(loss):
            raise ValueError(f"the model of PVM, the {name} diverged; lower selection.pvm.optimizer.lr")
    losses, figures = {name: np.full(len(pool), np.nan) for name in models}, {}
    for name, model in models.items():
        losses[name][learned] = trainer.losses(model, of_pool)
        own = {"pool": losses[name][learned], "target": trainer.losses(model, of_target)}
        figures |= {f"loss of the model of the {name} on the {side}": float(own[side].mean()) for side in own}
    value = losses["pool"] - losses["target"]
    predicted = _regressed(grams, value, fold, asked.ridge)
    read = asked.steps * asked.batch * asked.context * (1 - share)
    figures["passes over the target"] = read / sum(len(text) + 1 for text in of_target)
    figures["rank correlation of score and value"] = float(spearmanr(predicted[learned], value[learned]).statistic)
    features = {"value": value, "loss_pool": losses["pool"], "loss_target": losses["target"]}
    tokens = sum(len(text) + 1 for text in (*of_pool, *of_target))
    return Scores(
        predicted,
        by_rank(predicted, pool.origin),
        features,
        figures,
        flops=sum(trainer.flops(m, tokens) for m in models.values()),
    )


def _read(pool: Pool, tokenizer: tok.Tokenizer) -> tuple[Sequence[np.ndarray], csr_matrix, np.ndarray]:
    """Of every text its tokens, its hashed words and pairs of words, and its fold."""
    from sklearn.feature_extraction.text import HashingVectorizer

    turn = HashingVectorizer(
        ngram_range=(1, 2), n_features=FEATURES, alternate_sign=False, token_pattern=r"\w+|[^\w\s]", norm="l2"
    )
    encoded, grams, folds = [], [], []
    for texts in pool.batches():
        found = tokenizer.encode_batch_fast([text.text for text in texts], add_special_tokens=False)
        encoded += [np.asarray(encoding.ids, np.int32) for encoding in found]
        grams.append(turn.transform([text.text for text in texts]))
        folds += [text.fold for text in texts]
    return encoded, vstack(grams, format="csr"), np.array(folds)


def _regressed(grams: csr_matrix, value: np.ndarray, fold: np.ndarray, penalty: float) -> np.ndarray:
    """The value of each text, as the texts of the other folds have it."""
    from sklearn.linear_model import Ridge

    predicted = np.zeros(len(value))
    for own in range(FOLDS):
        rows = (fold != TARGET) & (fold != own)
        predicted[fold == own] = Ridge(alpha=penalty).fit(grams[rows], value[rows]).predict(grams[fold == own])
    return predicted
