"""Nothing but the text's own lot: what every other score must beat."""

from __future__ import annotations

import numpy as np

from palimpsest.choice import lot
from training.selection.found import Scores
from training.selection.pool import Pool


def score(pool: Pool) -> Scores:
    """Score: the lot, from 0 to 1. Weight: 1."""
    columns = zip(pool.rows["strategy"].to_pylist(), pool.rows["id"].to_pylist(), strict=True)
    lots = np.array([lot(f"{strategy}:{text}" if strategy else text) for strategy, text in columns])
    return Scores(lots, np.ones(len(pool)))
