"""What learned scores have in common: the target, the texts to learn from, and the regression that scores every text.

The target is a fifth of the documents that people wrote, by a hash of their ids. Nothing that stands over one of these
is learned from: it would be of value for quoting the target. On a testbed, where nothing stands over them, it is all of
them. What is measured on some of the other texts is carried to all by a ridge regression on hashed words and pairs of
words, and every text is scored by what was learned from the texts of other documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import Ridge

from palimpsest import tokenizer as tok
from palimpsest.guard.importance import FOLDS
from training.selection.pool import Pool

FEATURES = 1 << 16
TARGET = 0
"""The fold whose real documents are the target."""
LEAST = 10
"""Texts of the target, and texts to learn from in each fold."""


@dataclass(frozen=True)
class Read:
    """A pool as learned scores need it, in its order."""

    encoded: list[np.ndarray]
    """Token ids of each text, int32."""
    grams: csr_matrix
    """(texts, `FEATURES`): hashed words and pairs of words."""
    fold: np.ndarray
    target: np.ndarray
    """Is it a document of the target?"""
    learned: np.ndarray
    """May it be learned from?"""
    vocabulary: int
    boundary: int
    """The token between texts."""

    def texts(self, side: np.ndarray) -> list[np.ndarray]:
        """Token ids of the texts where ``side`` is true, or of those at its places."""
        return [self.encoded[place] for place in (np.flatnonzero(side) if side.dtype == bool else side)]

    def regressed(self, value: np.ndarray, penalty: float, beside: np.ndarray | None = None) -> np.ndarray:
        """The value of each text, as the texts of other folds have it whose value is finite.

        ``beside``: (texts, any) further features. Raises ValueError where too few are finite.
        """
        features = self.grams if beside is None else hstack([self.grams, csr_matrix(beside)], format="csr")
        known = np.isfinite(value) & self.learned
        fewest = min(int((known & (self.fold == own)).sum()) for own in np.unique(self.fold[self.learned]))
        if fewest < LEAST:
            raise ValueError(
                f"{fewest} measured texts in the smallest fold are too few, {LEAST} are needed; give the study more "
                "text, or select by another score"
            )
        predicted = np.zeros(len(value))
        for own in range(FOLDS):
            rows, mine = known & (self.fold != own), self.fold == own
            if mine.any():
                predicted[mine] = Ridge(alpha=penalty).fit(features[rows], value[rows]).predict(features[mine])
        return predicted


def read(pool: Pool, tokenizer: tok.Tokenizer, *, every_real: bool = False) -> Read:
    """Every text once; ``every_real``: all real documents are the target, all other texts are learned from.

    Raises ValueError for too little text.
    """
    turn = HashingVectorizer(
        ngram_range=(1, 2), n_features=FEATURES, alternate_sign=False, token_pattern=r"\w+|[^\w\s]", norm="l2"
    )
    encoded, grams, folds = [], [], []
    for texts in pool.batches():
        found = tokenizer.encode_batch_fast([text.text for text in texts], add_special_tokens=False)
        encoded += [np.asarray(encoding.ids, np.int32) for encoding in found]
        grams.append(turn.transform([text.text for text in texts]))
        folds += [text.fold for text in texts]
    fold, real = np.array(folds), pool.origin == "real"
    target, learned = (real, ~real) if every_real else ((fold == TARGET) & real, fold != TARGET)
    fewest = min(int((learned & (fold == own)).sum()) for own in range(FOLDS) if every_real or own != TARGET)
    if min(int(target.sum()), fewest) < LEAST:
        raise ValueError(
            f"{int(target.sum())} documents of the target and {fewest} texts in the smallest fold are too few, "
            f"{LEAST} each are needed; give the study more documents, or select by another score"
        )
    boundary = tokenizer.token_to_id(tok.BOUNDARY)
    return Read(encoded, vstack(grams, format="csr"), fold, target, learned, tokenizer.get_vocab_size(), boundary)
