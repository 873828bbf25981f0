"""Handwritten digits, 60 of them real, with 4,000 "generated" ones of which is known what is wrong with each.

The images are those that scikit-learn ships (1,797 of 8 x 8). A seed draws who is real, held out or hidden; what is
generated stands over the hidden images: good copies, and four sorts of bad ones, as generators and labellers make them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CLASSES = 10
REAL, VALIDATION, STOPPING, HIDDEN = 60, 100, 100, 700
"""Images of each part; the rest, 837, is the test set."""
GENERATED = {"good": 1400, "mislabelled": 1200, "noise": 400, "rotated": 600, "mean": 400}
"""Copies, copies under the next label, uniform noise under any label, copies turned by 90 degrees, copies of the mean
of the class."""
GAIN, BLUR = (0.85, 1.15), 0.05
"""Brightness of copied images, and the standard deviation of noise on them; means are copied as they are."""
SORTS = ("real", *GENERATED)


@dataclass(frozen=True)
class Examples:
    """Images (n, 64) from 0 to 1 and their labels (n,), as one is told them."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def at(self, places: Tensor | np.ndarray) -> Examples:
        return Examples(self.x[places], self.y[places])


@dataclass(frozen=True)
class Digits:
    """One seed's data."""

    pool: Examples
    """Real images first, then the generated ones."""
    sort: np.ndarray
    """Of each of the pool, by its place in `SORTS`."""
    validation: Examples
    """What weights are learned for."""
    stopping: Examples
    """What says when to stop."""
    test: Examples
    """What decides nothing."""

    @property
    def real(self) -> np.ndarray:
        return self.sort == 0

    @property
    def good(self) -> np.ndarray:
        """Of the generated ones alone, in their order."""
        return self.sort[~self.real] == SORTS.index("good")


def draw(seed: int) -> Digits:
    """The data of a seed; real, validation and stopping images are as many of each class as they can be."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    images, labels = found.data / 16, found.target
    left, parts = np.arange(len(labels)), []
    for count in (REAL, VALIDATION, STOPPING, HIDDEN):
        part, left = train_test_split(left, train_size=count, stratify=labels[left], random_state=seed)
        parts.append(part)
    real, validation, stopping, hidden = parts
    x, y, sort = _generated(images[hidden], labels[hidden], np.random.default_rng([seed, 7]))
    pool = np.concatenate([images[real], x]), np.concatenate([labels[real], y])
    others = ((images[part], labels[part]) for part in (validation, stopping, left))
    return Digits(_examples(*pool), np.concatenate([np.zeros(len(real), int), sort]), *(_examples(*o) for o in others))


def _generated(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    means = np.stack([images[labels == own].mean(0) for own in range(CLASSES)])
    xs, ys, sorts = [], [], []
    for sort, count in GENERATED.items():
        of = rng.integers(len(labels), size=count)
        x, y = images[of], labels[of]
        if sort == "mislabelled":
            y = (y + 1) % CLASSES
        elif sort == "noise":
            x, y = rng.random(x.shape), rng.integers(CLASSES, size=count)
        elif sort == "rotated":
            x = np.rot90(x.reshape(-1, 8, 8), axes=(1, 2)).reshape(x.shape)
        elif sort == "mean":
            x = means[y]
        if sort not in ("noise", "mean"):
            x = np.clip(x * rng.uniform(*GAIN, (count, 1)) + rng.normal(0, BLUR, x.shape), 0, 1)
        xs.append(x)
        ys.append(y)
        sorts.append(np.full(count, SORTS.index(sort)))
    return np.concatenate(xs), np.concatenate(ys), np.concatenate(sorts)


def _examples(x: np.ndarray, y: np.ndarray) -> Examples:
    return Examples(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.int64))
