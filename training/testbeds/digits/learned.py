"""Weights of a pool learned beside the learner that they serve: by MTS and by Meta-Weight-Net.

MTS (Du et al. 2026, 2606.00571) tells its network 22 features of each example, Meta-Weight-Net (Shu et al. 2019,
1902.07379) the example's loss. Network and learner take turns (`training.meta.bilevel`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.meta import bilevel
from training.testbeds.digits import features, learner
from training.testbeds.digits.data import SORTS, Digits
from training.testbeds.digits.learner import STEPS, generator
from training.testbeds.digits.quality import auroc
from training.testbeds.digits.weighing import Recipe, Weighing

Tell = Callable[[Mapping[str, float], int], None]
"""Has the figures of a look, and the step."""


@dataclass(frozen=True)
class Learned:
    """What came of it."""

    weights: np.ndarray
    """(n,) of the pool, averaged over the second half of the steps."""
    online: float
    """Test accuracy of the learner itself, averaged likewise."""
    stopped: float
    """Its test accuracy where its loss on the stopping images was least."""
    share: float
    """B_eff / N, averaged likewise."""
    alarms: list[int]
    """Steps at which the weights of a batch rang the alarm."""
    said: str
    """What the first of them said."""
    trace: list[dict[str, float]]
    carried: dict[str, float]
    """By feature, the AUROC of good against bad that is lost when the feature is shuffled."""


def learn(
    data: Digits,
    known: Tensor,
    recipe: Recipe,
    seed: int,
    *,
    names: list[str] | None = None,
    steps: int = STEPS,
    span: int | None = None,
    tell: Tell | None = None,
) -> tuple[Weighing, Learned]:
    """The state at the end, and what came of it; ``tell`` has the figures of every look, with the step.

    ``span``: the steps over which the network's rate falls to 0; more than ``steps`` breaks a run off in its middle.

    Raises `Collapsed` where the alarm rings more than ``recipe.patience`` times in a row.
    """
    own, rng, aside = Weighing(data, known, recipe, seed), generator(seed, 104), generator(seed, 105)
    looks = _Looks(own)

    def look(metrics: dict[str, float], done: int) -> None:
        looks.take(metrics, done, late=done > steps // 2)
        if tell:
            tell(metrics, done)

    alarms = bilevel.learn(own, recipe.learner, rng, aside, steps=steps, patience=recipe.patience, look=look, span=span)
    return own, looks.learned(alarms.steps, alarms.said, names)


class _Looks:
    """What is seen of a run while it goes."""

    def __init__(self, own: Weighing) -> None:
        self.own, self.trace, self.late = own, [], []
        self.weights = torch.zeros(len(own.data.pool))
        self.best = (math.inf, 0.0)

    def take(self, metrics: dict[str, float], step: int, *, late: bool) -> None:
        data, theta, weights = self.own.data, self.own.theta, self.own.weights()
        accuracy, stopping = learner.accuracy(theta, data.test), learner.loss(theta, data.stopping)
        self.best = min(self.best, (stopping, accuracy), key=lambda pair: pair[0])
        metrics |= {"mts/stopping_loss": stopping, "mts/accuracy": accuracy}
        even = weights / weights.mean()
        for number, sort in enumerate(SORTS):
            metrics[f"mts/weight_{sort}"] = float(even[data.sort == number].mean())
        self.trace.append({"step": step, **metrics})
        if late:
            self.weights += even
            self.late.append(metrics)

    def learned(self, alarms: list[int], said: str, names: list[str] | None) -> Learned:
        def mean(name: str) -> float:
            return float(np.mean([row[name] for row in self.late]))

        carried = _carried(self.own, names) if names and self.own.recipe.features else {}
        weights = (self.weights / len(self.late)).numpy()
        return Learned(
            weights, mean("mts/accuracy"), self.best[1], mean("mts/share"), alarms, said, self.trace, carried
        )


@torch.no_grad()
def _carried(own: Weighing, names: list[str]) -> dict[str, float]:
    inputs, data, rng = own.inputs(torch.arange(len(own.data.pool))), own.data, generator(0, 106)

    def found(given: Tensor) -> float:
        return auroc(data, own.network(given).numpy())

    columns = [*names, *features.ONLINE]
    whole, lost = found(inputs), {}
    for name in dict.fromkeys(columns):
        shuffled, order = inputs.clone(), torch.randperm(len(inputs), generator=rng)
        for place in (place for place, column in enumerate(columns) if column == name):
            shuffled[:, place] = inputs[order, place]
        lost[name] = whole - found(shuffled)
    return lost
