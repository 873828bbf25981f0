"""Weights of a pool learned beside the learner that they serve: by MTS and by Meta-Weight-Net.

MTS (Du et al. 2026, 2606.00571) tells its network 22 features of each example, Meta-Weight-Net (Shu et al. 2019,
1902.07379) the example's loss. In every step the network takes the gradient of one look-ahead step of the learner
(`training.meta.hypergradient`), then the learner takes its own on other examples, weighted by what the network says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.meta.diagnosis import alarm, check, of_weights
from training.testbeds import features, learner
from training.testbeds.digits import SORTS, Digits
from training.testbeds.learner import STEPS, generator
from training.testbeds.quality import auroc
from training.testbeds.weighing import Recipe, Weighing

RATE = 1e-3
"""Of the network's AdamW, after a tenth of the steps; from there it falls to 0 along a cosine."""
DECAY = 1e-4
CHECK = 20
"""Steps between looks at the weights of a batch."""
MEASURE, INDEPENDENT = 100, 8
"""Steps between measurements of the gradient's noise, and gradients that each takes: a trend, not a figure to cite."""

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
    outer = _optimizer(own.network)
    looks, alarms, said, rang = _Looks(own), [], "", 0
    for done in range(1, steps + 1):
        found = own.gradient(rng)
        for name, value in own.network.named_parameters():
            value.grad = found.gradient[name]
        for group in outer.param_groups:
            group["lr"] = RATE * _schedule(done / (span or steps))
        outer.step()
        places = own.drawn(rng, recipe.learner)
        own.learn(places, own.weights(places))
        if done % CHECK:
            continue
        told = of_weights(found.weights)
        if warning := alarm(told, recipe.learner):
            alarms.append(done)
            said = said or warning
        if recipe.patience is not None:
            rang = check(told, recipe.learner, rang, recipe.patience)
        metrics = told.metrics()
        if not done % MEASURE:
            metrics |= own.signal(aside, INDEPENDENT).metrics()
        looks.take(metrics, done, late=done > steps // 2)
        if tell:
            tell(metrics, done)
    return own, looks.learned(alarms, said, names)


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


def _optimizer(network: torch.nn.Module) -> torch.optim.AdamW:
    groups = {True: [], False: []}
    for value in network.parameters():
        groups[value.ndim > 1].append(value)
    return torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": DECAY}, {"params": groups[False], "weight_decay": 0.0}], lr=RATE
    )


def _schedule(share: float) -> float:
    """Of the rate at this share of the steps."""
    return share / 0.1 if share < 0.1 else (1 + math.cos(math.pi * (share - 0.1) / 0.9)) / 2


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
