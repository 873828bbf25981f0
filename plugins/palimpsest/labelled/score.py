"""What a classifier is worth on real test items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 15
FIGURES = ("balanced_accuracy", "worst_cell_recall", "head_recall", "tail_recall", "ece")


def score(
    probabilities: np.ndarray, labels: np.ndarray, cells: np.ndarray, short: Sequence[bool]
) -> dict[str, float | int | None]:
    """Figures of the report card, and the place of the worst cell; ``short``: of each cell, whether it lacks items.

    Balanced accuracy: mean recall over labels. Head and tail: mean recall over the cells that were not short, and over
    those that were; None where there is none.
    """
    right = probabilities.argmax(axis=1) == labels
    recalls = {int(cell): float(right[cells == cell].mean()) for cell in np.unique(cells)}
    worst = min(recalls, key=recalls.__getitem__)
    by_label = [right[labels == label].mean() for label in np.unique(labels)]
    head, tail = ([recall for cell, recall in recalls.items() if short[cell] == side] for side in (False, True))
    return {
        "balanced_accuracy": float(np.mean(by_label)),
        "worst_cell_recall": recalls[worst],
        "worst_cell": worst,
        "head_recall": float(np.mean(head)) if head else None,
        "tail_recall": float(np.mean(tail)) if tail else None,
        "ece": calibration_error(probabilities, labels),
    }


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error: |confidence - accuracy| in 15 equal bins, by their items (Guo et al. 2017,
    1706.04599).
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    sums = (np.bincount(places, weights, BINS) for weights in (confidence, right.astype(float)))
    return float(np.abs(np.subtract(*sums)).sum() / len(labels))
