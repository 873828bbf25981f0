"""Expected calibration error on held-out text: by how much a model is surer, or less sure, than it is right.

Of every predicted token: the probability of the likeliest one, and whether it was right. Tokens fall into bins of
equal mass by confidence (Nguyen and O'Connor 2015, 1508.05154); the error is the mean over tokens of the distance
between a bin's confidence and its accuracy. It moves before accuracy does as generated text piles up (Du et al. 2025,
2510.05133).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from training.evaluate import HeldOut
from training.model import Decoder
from training.targets import told

BINS = 15
RESAMPLES = 200
LEAST = 1_000
"""Tokens; bins of fewer than some seventy have errors of their own size."""


@dataclass(frozen=True)
class Calibration:
    tokens: int
    documents: int
    ece: float
    error: float | None
    """Standard error over documents (bootstrap); None for fewer than two."""
    confidence: float
    accuracy: float
    bins: list[dict[str, float | int]]
    """Per bin: tokens, the lowest and highest confidence, means of confidence and accuracy."""


def calibrate(model: Decoder, held_out: HeldOut, dtype: torch.dtype) -> Calibration:
    """Over the study's own held-out documents. Raises ValueError for too few tokens. 5 bytes of memory per token."""
    confidence, right = np.zeros(len(held_out.position), np.float32), np.zeros(len(held_out.position), bool)
    model.eval()
    for batch in held_out.batches:
        found = told(model, batch, dtype)
        confidence[found.place], right[found.place] = found.confidence, found.right
    own = held_out.sets["iid"]
    document = np.cumsum(held_out.position == 1)[own]
    return measure(confidence[own], right[own], document)


def measure(confidence: np.ndarray, right: np.ndarray, document: np.ndarray) -> Calibration:
    """Of every token its confidence, whether it was right, and the number of its document, ascending."""
    if len(confidence) < LEAST:
        raise ValueError(f"{len(confidence):,} held-out tokens are too few for {BINS} bins; {LEAST:,} are needed")
    bins = np.empty(len(confidence), np.int64)
    bins[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * BINS // len(confidence)
    _, owner = np.unique(document, return_inverse=True)
    cells, shape = owner * BINS + bins, (int(owner[-1]) + 1, BINS)
    sums = [
        np.bincount(cells, weights, shape[0] * BINS).reshape(shape)
        for weights in (None, confidence.astype(float), right.astype(float))
    ]
    whole = [part.sum(0) for part in sums]
    rows = [
        {
            "bin": number,
            "tokens": int(whole[0][number]),
            "lowest": float(confidence[bins == number].min()),
            "highest": float(confidence[bins == number].max()),
            "confidence": float(whole[1][number] / whole[0][number]),
            "accuracy": float(whole[2][number] / whole[0][number]),
        }
        for number in range(BINS)
    ]
    tokens = len(confidence)
    means = float(confidence.mean(dtype=float)), float(right.mean())
    return Calibration(tokens, shape[0], _ece(*whole), _error(sums), *means, rows)


def _ece(tokens: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(confidence - right).sum() / tokens.sum())


def _error(sums: list[np.ndarray]) -> float | None:
    """Over random draws of as many documents, the bins as they are."""
    documents = len(sums[0])
    if documents < 2:
        return None
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        times = np.bincount(random.integers(documents, size=documents), minlength=documents)
        drawn.append(_ece(*(times @ part for part in sums)))
    return float(np.std(drawn, ddof=1))
