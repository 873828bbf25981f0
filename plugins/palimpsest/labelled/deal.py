"""One seed's real items: to train on, to verify with, to measure on, and held back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.config import Labelled
from palimpsest.labelled.coverage import Cell
from palimpsest.labelled.items import Items, take
from palimpsest.labelled.separate import Protected


@dataclass(frozen=True)
class Deal:
    """Places among the items, each in one part at most."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    held_back: np.ndarray
    """Of cells that are short: as many as they lack, where there are."""
    protected: Protected
    """Validation and test."""
    dropped: Mapping[str, int]
    """Real items that stand too near a validation or test item to be trained on."""


def deal(study: Labelled, items: Items, cells: Sequence[Cell], seed: int) -> Deal:
    """A random deal: test first, so that all arms of a seed are measured on the same items."""
    random = np.random.default_rng([seed, 0])
    test, validation, pools = [], [], []
    for place, cell in enumerate(cells):
        order = random.permutation(np.flatnonzero(items.cells == place))
        test.append(order[: cell.test])
        validation.append(order[cell.test : cell.test + cell.validation])
        pools.append(order[cell.test + cell.validation :])
    kept = np.concatenate([*test, *validation])
    protected, dropped = Protected(take(items.values, kept), study.learner), Counter()
    train, held_back = [], []
    for cell, pool in zip(cells, pools, strict=True):
        found = protected.offences(take(items.values, pool))
        dropped.update(why for why in found if why)
        clean = pool[[why is None for why in found]] if len(pool) else pool
        train.append(clean[: cell.real])
        held_back.append(clean[cell.real : cell.real + cell.deficit])
    parts = (np.concatenate(part).astype(int) for part in (train, validation, test, held_back))
    return Deal(*parts, protected, dict(dropped))
