"""What may not stand near the items that everything is measured on: near duplicates and shared runs of 13 words."""

from __future__ import annotations

import numpy as np

from palimpsest.config.labelled import Learner
from palimpsest.guard.duplicates import RUN, Real, bands
from palimpsest.labelled.items import Values
from palimpsest.labelled.learner import features
from palimpsest.words import SharedRuns

NEAR_TEXT, NEAR_IMAGE = 0.95, 0.995
"""Cosines of features from which two items are the same one: different texts of a cell stay below 0.9 and different
digits of a class below 0.99, but for a few that nobody could tell apart."""
BLOCK = 4096


class Protected:
    """Validation and test items."""

    def __init__(self, values: Values, learner: Learner) -> None:
        self._learner = learner
        self._rows = _unit(features(values, learner))
        self._images = isinstance(values, np.ndarray)
        if not self._images:
            self._runs, self._real = SharedRuns(values, RUN), Real()
            self._real.add(values)

    def offences(self, values: Values) -> list[str | None]:
        """Of each item why it may not be trained on: 'near_duplicate', 'shared_words', or None."""
        if not len(values):
            return []
        found: list[str | None] = ["near_duplicate" if near else None for near in self._near(values)]
        if self._images:
            return found
        for place, text in enumerate(values):
            if found[place] is None and next(self._runs.hits(text), None):
                found[place] = "shared_words"
        left = [(place, self._real.shingles.of(values[place])) for place, why in enumerate(found) if why is None]
        left = [(place, shingles) for place, shingles in left if len(shingles)]
        for (place, shingles), keys in zip(left, bands([shingles for _, shingles in left]), strict=True):
            if self._real.seen.meets(shingles, keys):
                found[place] = "near_duplicate"
        return found

    def _near(self, values: Values) -> np.ndarray:
        rows, least = _unit(features(values, self._learner)), NEAR_IMAGE if self._images else NEAR_TEXT
        blocks = [rows[start : start + BLOCK] @ self._rows.T for start in range(0, rows.shape[0], BLOCK)]
        highest = [block.max(axis=1) for block in blocks]
        return np.concatenate([(h if self._images else h.toarray().ravel()) >= least for h in highest])


def _unit(rows):
    if not isinstance(rows, np.ndarray):
        return rows  # made so
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
