"""A network that weighs examples and the learner that they serve, trained in turns (Du et al. 2026, 2606.00571).

In every step the network takes the gradient of one look-ahead step of the learner (`training.meta.hypergradient`), then
the learner takes its own on other examples, weighted by what the network says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from training.meta.diagnosis import Signal, alarm, check, of_weights
from training.meta.hypergradient import Hypergradient

RATE = 1e-3
"""Of the network's AdamW, after a tenth of the steps; from there it falls to 0 along a cosine."""
DECAY = 1e-4
CHECK = 20
"""Steps between looks at the weights of a batch."""
MEASURE, INDEPENDENT = 5, 8
"""Looks from one measurement of the gradient's noise to the next, and gradients of each: a trend, no figure to cite."""

Look = Callable[[dict[str, float], int], None]
"""Has the figures of a look, and the step."""


class Weighed(Protocol):
    """A learner and the network that weighs what it learns from."""

    network: nn.Module

    def gradient(self, rng: torch.Generator) -> Hypergradient: ...

    def signal(self, rng: torch.Generator, count: int) -> Signal: ...

    def drawn(self, rng: torch.Generator, count: int) -> Tensor:
        """So many places of the pool."""
        ...

    def step(self, places: Tensor) -> None:
        """The learner's, on these as the network weighs them."""
        ...


@dataclass
class Alarms:
    """When the weights of a batch rang the alarm."""

    steps: list[int] = field(default_factory=list)
    said: str = ""
    """By the first of them."""


def learn(
    own: Weighed,
    learner_batch: int,
    rng: torch.Generator,
    aside: torch.Generator,
    *,
    steps: int,
    patience: int | None,
    look: Look,
    span: int | None = None,
    every: int = CHECK,
    measure: int = MEASURE,
    rate: float = RATE,
) -> Alarms:
    """``steps`` of both; ``look`` is called every so many, and at every ``measure``-th look the noise is measured.

    Not after the last step, though: where the learner's rate ends at 0, no gradient is left to measure.

    ``aside`` draws for what is measured and not learned.

    ``span``: the steps over which the network's rate falls to 0; more than ``steps`` breaks a run off in its middle.

    Raises `Collapsed` where the alarm rings more than ``patience`` times in a row.
    """
    outer, found, rang = _optimizer(own.network), Alarms(), 0
    for done in range(1, steps + 1):
        given = own.gradient(rng)
        for name, value in own.network.named_parameters():
            value.grad = given.gradient[name]
        for group in outer.param_groups:
            group["lr"] = rate * _schedule(done / (span or steps))
        outer.step()
        own.step(own.drawn(rng, learner_batch))
        if done % every:
            continue
        told = of_weights(given.weights)
        if warning := alarm(told, learner_batch):
            found.steps.append(done)
            found.said = found.said or warning
        if patience is not None:
            rang = check(told, learner_batch, rang, patience)
        metrics = told.metrics()
        if not done % (every * measure) and done < steps:
            metrics |= own.signal(aside, INDEPENDENT).metrics()
        look(metrics, done)
    return found


def _optimizer(network: nn.Module) -> torch.optim.AdamW:
    groups = {True: [], False: []}
    for value in network.parameters():
        groups[value.ndim > 1].append(value)
    return torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": DECAY}, {"params": groups[False], "weight_decay": 0.0}], lr=RATE
    )


def _schedule(share: float) -> float:
    """Of the rate at this share of the steps."""
    return share / 0.1 if share < 0.1 else (1 + math.cos(math.pi * (share - 0.1) / 0.9)) / 2
