"""A learner and the network that weighs its examples: what the network is told, its gradient, the learner's step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.meta.diagnosis import Signal, of_gradients
from training.meta.hypergradient import FLOOR, Hypergradient, WeightNet, descent, hypergradient
from training.testbeds.digits import features, learner
from training.testbeds.digits.data import Digits
from training.testbeds.digits.learner import Theta

PATIENCE = 5
"""Alarms in a row that are borne."""


@dataclass(frozen=True)
class Recipe:
    """How weights are learned."""

    meta: int
    """Examples of a hypergradient."""
    learner: int
    """Examples of a step of the learner; few of them under sharp weights, and it collapses."""
    features: bool = True
    """The network sees the features of MTS; else the loss alone, as Meta-Weight-Net does."""
    floor: float = FLOOR
    patience: int | None = PATIENCE
    """None: an alarm is noted, and nothing is stopped (for arms that show what collapse costs)."""


class Weighing:
    """A learner, and the network that weighs what it learns from."""

    def __init__(self, data: Digits, known: Tensor, recipe: Recipe, seed: int) -> None:
        self.data, self.known, self.recipe = data, known, recipe
        self.theta: Theta = learner.start(data.pool.x.shape[1], seed)
        self.velocity = learner.rest(self.theta)
        wide = known.shape[1] + len(features.ONLINE) if recipe.features else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = (100, 100) if recipe.features else (100,)
            self.network = WeightNet(wide, hidden=hidden, floor=recipe.floor)

    def inputs(self, places: Tensor) -> Tensor:
        """(n, F): what the network is told of these examples of the pool now."""
        drawn = self.data.pool.at(places)
        if not self.recipe.features:
            with torch.no_grad():
                return learner.losses(drawn)(self.theta)[:, None]
        return torch.cat([self.known[places], features.online(self.theta, drawn.x, self.data.validation.x)], 1)

    def gradient(self, rng: torch.Generator, *, meta: int | None = None, held: int | None = None) -> Hypergradient:
        """The hypergradient of ``meta`` examples, drawn, and of ``held`` validation images, or of all of them."""
        places = self.drawn(rng, meta or self.recipe.meta)
        validation = self.data.validation
        if held is not None:
            validation = validation.at(torch.randint(len(validation), (held,), generator=rng))
        losses = learner.losses(self.data.pool.at(places)), learner.losses(validation)
        base = learner.coasted(self.theta, self.velocity)
        return hypergradient(self.network, self.inputs(places), self.theta, *losses, descent(learner.RATE, base))

    def signal(self, rng: torch.Generator, count: int, **kinds: int | None) -> Signal:
        """Signal and noise of ``count`` independent hypergradients, nothing moving."""
        return of_gradients(torch.stack([self.gradient(rng, **kinds).flat for _ in range(count)]))

    def step(self, places: Tensor) -> None:
        self.learn(places, self.weights(places))

    def learn(self, places: Tensor, weights: Tensor) -> None:
        """The learner's step on these examples of the pool, by weights of any sum."""
        self.theta, self.velocity = learner.step(self.theta, self.velocity, self.data.pool.at(places), weights)

    def drawn(self, rng: torch.Generator, count: int) -> Tensor:
        return torch.randint(len(self.data.pool), (count,), generator=rng)

    @torch.no_grad()
    def weights(self, places: Tensor | None = None) -> Tensor:
        """Of these examples, or of the whole pool."""
        return self.network(self.inputs(torch.arange(len(self.data.pool)) if places is None else places))
