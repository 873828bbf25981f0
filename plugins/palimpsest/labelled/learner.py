"""The classifier of every arm, its features, and the weights that balance its cells."""

from __future__ import annotations

import warnings

import numpy as np

from palimpsest.config.labelled import Learner
from palimpsest.guard.tokens import TOKEN
from palimpsest.labelled.items import Values

LAST_STEPS = 5
"""Steps on real items alone, where they come last."""


def features(values: Values, learner: Learner):
    """A row per item: pixels as they are, or damped counts of hashed words and marks, of unit length (sparse)."""
    if isinstance(values, np.ndarray):
        return values
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.preprocessing import normalize

    if not len(values):
        return csr_matrix((0, learner.features))
    counted = HashingVectorizer(
        token_pattern=TOKEN.pattern, n_features=learner.features, alternate_sign=False, norm=None
    ).transform(values)
    counted.data = np.log1p(counted.data)
    return normalize(counted, copy=False)


def stack(*parts):
    """Rows of several feature matrices, one below the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy.sparse import vstack

    return vstack(parts, format="csr")


def balanced(cells: np.ndarray) -> np.ndarray:
    """A weight per item that makes every cell count as much as the largest: oversampling, in expectation."""
    counts = np.bincount(cells)
    return counts.max() / counts[cells]


class Classifier:
    """Multinomial logistic regression over so many labels, of which some may be absent: they get probability 0.

    ``last``: rows that the last steps are taken on alone. Raises ValueError for items of one label.
    """

    def __init__(
        self,
        learner: Learner,
        count: int,
        rows,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        last: np.ndarray | None = None,
    ) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(labels)) < 2:
            raise ValueError("a classifier needs items of two labels or more")
        self._count = count
        self._model = LogisticRegression(C=learner.c, max_iter=200, tol=1e-3, warm_start=last is not None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last steps are few on purpose
            self._model.fit(rows, labels, weights)
            if last is not None and len(np.unique(labels[last])) == len(self._model.classes_):
                self._model.max_iter = LAST_STEPS
                self._model.fit(rows[last], labels[last], None if weights is None else weights[last])

    def probabilities(self, rows) -> np.ndarray:
        found = np.zeros((rows.shape[0], self._count))
        if rows.shape[0]:
            found[:, self._model.classes_] = self._model.predict_proba(rows)
        return found


def out_of_sample(learner: Learner, count: int, rows, labels: np.ndarray, seed: int, folds: int = 3) -> np.ndarray:
    """Probabilities of each item by a classifier that has not seen it. Raises ValueError for too few items."""
    counts = np.bincount(labels, minlength=count)
    if counts[counts > 0].min() < folds or (counts > 0).sum() < 2:
        raise ValueError(f"{folds} folds need two labels with {folds} items each or more")
    from sklearn.model_selection import StratifiedKFold

    found = np.zeros((len(labels), count))
    for seen, unseen in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        model = Classifier(learner, count, rows[seen], labels[seen], balanced(labels[seen]))
        found[unseen] = model.probabilities(rows[unseen])
    return found


def label_noise(probabilities: np.ndarray, labels: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Which items look wrongly labelled (confident learning, Northcutt et al. 2021, 1911.00068).

    An item may belong to label j where its out-of-sample probability of j reaches the mean of the ``trusted`` items
    that carry j; it looks wrong where the likeliest of these is not its own.
    """
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in np.unique(labels[trusted]):
        thresholds[label] = probabilities[trusted & (labels == label), label].mean()
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return (reached.max(axis=1) >= 0) & (reached.argmax(axis=1) != labels)
