"""The learner of the testbed: a network with one hidden layer, as a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.meta.hypergradient import Losses, Parameters
from training.testbeds.digits.data import CLASSES, Examples

HIDDEN = 64
RATE, MOMENTUM = 0.05, 0.9
BATCH = 128
STEPS = 800

Theta = dict[str, Tensor]


def generator(*numbers: int) -> torch.Generator:
    """Draws of its own for each sequence of numbers (a seed, and what is drawn)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % 2**63
    return torch.Generator().manual_seed(mixed)


def start(inputs: int, seed: int) -> Theta:
    """Weights as `torch.nn.Linear` starts them."""
    rng, found = generator(seed, 101), {}
    for name, rows, columns in (("1", inputs, HIDDEN), ("2", HIDDEN, CLASSES)):
        width = rows**-0.5
        found[f"weight{name}"] = (2 * torch.rand(rows, columns, generator=rng) - 1) * width
        found[f"bias{name}"] = (2 * torch.rand(columns, generator=rng) - 1) * width
    return found


def embed(theta: Parameters, x: Tensor) -> Tensor:
    """(n, HIDDEN): what the hidden layer makes of images."""
    return torch.relu(x @ theta["weight1"] + theta["bias1"])


def logits(theta: Parameters, x: Tensor) -> Tensor:
    return embed(theta, x) @ theta["weight2"] + theta["bias2"]


def losses(of: Examples) -> Losses:
    return lambda theta: cross_entropy(logits(theta, of.x), of.y, reduction="none")


def step(theta: Theta, velocity: Theta, batch: Examples, weights: Tensor | None = None) -> tuple[Theta, Theta]:
    """Parameters and velocity after a step down the mean loss, weighted if there are ``weights`` (n,) of any sum."""
    theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
    own = losses(batch)(theta)
    loss = own.mean() if weights is None else (weights / weights.sum() * own).sum()
    found = torch.autograd.grad(loss, list(theta.values()))
    velocity = {name: MOMENTUM * velocity[name] + part for name, part in zip(theta, found, strict=True)}
    return {name: value.detach() - RATE * velocity[name] for name, value in theta.items()}, velocity


def coasted(theta: Theta, velocity: Theta) -> Theta:
    """Where the next step would lead if nothing were learned in it."""
    return {name: value - RATE * MOMENTUM * velocity[name] for name, value in theta.items()}


def rest(theta: Theta) -> Theta:
    """No velocity."""
    return {name: torch.zeros_like(value) for name, value in theta.items()}


def train(
    of: Examples,
    seed: int,
    *,
    steps: int = STEPS,
    batch: int = BATCH,
    extra: tuple[Examples, float] | None = None,
    each: Callable[[int, Theta], None] | None = None,
) -> Theta:
    """A learner from scratch on even draws from ``of``; ``each`` has the steps done so far and what they led to.

    ``extra``: more examples, and what their mean loss counts beside that of ``of``; the start and the draws of a seed
    are the same with and without.
    """
    theta, rng, others = start(of.x.shape[1], seed), generator(seed, 102), generator(seed, 103)
    velocity = rest(theta)
    for done in range(1, steps + 1):
        drawn = of.at(torch.randint(len(of), (batch,), generator=rng))
        if extra is None:
            theta, velocity = step(theta, velocity, drawn)
        else:
            more = extra[0].at(torch.randint(len(extra[0]), (batch,), generator=others))
            both = Examples(torch.cat([drawn.x, more.x]), torch.cat([drawn.y, more.y]))
            theta, velocity = step(theta, velocity, both, torch.tensor([1.0, extra[1]]).repeat_interleave(batch))
        if each:
            each(done, theta)
    return theta


@torch.no_grad()
def accuracy(theta: Parameters, of: Examples) -> float:
    return float((logits(theta, of.x).argmax(1) == of.y).double().mean())


@torch.no_grad()
def loss(theta: Parameters, of: Examples) -> float:
    return float(losses(of)(theta).double().mean())
