"""Meta-learned data weights: the exact gradient of a validation loss after one step, in the weights' own parameters.

A network phi gives each example a weight w; p = w / sum(w) over the batch; the learner takes one step
theta' = theta - alpha sum p_i grad l_i, and the network is to lower the validation loss at theta' (Du et al. 2026,
2606.00571; look-ahead as in Ren et al. 2018, 1803.09050). With a_i = <grad L_val(theta'), grad l_i(theta)>, how far
each example's gradient points the same way, and abar = sum p_j a_j,

    dL_val / dw_i = -alpha / S (a_i - abar),  S = sum w,     so     grad_phi = -alpha Cov_p(a, grad log w).

All a_i are one forward derivative (jvp) of the losses in the direction of grad L_val: no graph of second order is
built, and nothing is approximated for a step of gradient descent, with momentum or without. A learner that scales each
parameter's step (AdamW) does so with grad L_val too; the scales are held fixed, as if they were given. Several
processes normalise together: only S and abar cross between them, and the gradients are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

Parameters = Mapping[str, Tensor]
Losses = Callable[[Parameters], Tensor]
"""Loss of each example of a batch, (N,), under these parameters of the learner."""
Moves = Callable[[Parameters], tuple[Parameters, Parameters]]
"""Of a gradient: where a step down it leads the learner, and how far it moves each parameter per unit of gradient."""
Sum = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes."""
FLOOR = 0.05
"""Least weight of an example: without it few examples end up with all the weight, and what is learned is noise."""
DIFFERENCE = 0.01
"""Length of the finite difference, over the length of the direction."""


class WeightNet(nn.Module):
    """Features (N, F) to weights (N,) between ``floor`` and 1; by two hidden layers of 100 as in the paper."""

    def __init__(self, features: int, hidden: Sequence[int] = (100, 100), floor: float = FLOOR) -> None:
        super().__init__()
        if not 0 <= floor < 1:
            raise ValueError(f"a floor of {floor:g} leaves no room for weights; give one from 0 to below 1")
        self.floor = floor
        layers: list[nn.Module] = []
        for wide, width in zip((features, *hidden), hidden, strict=False):
            layers += [nn.Linear(wide, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.floor + (1 - self.floor) * torch.sigmoid(self.layers(features).squeeze(-1))


@dataclass(frozen=True)
class Hypergradient:
    """One gradient of the validation loss in the network's parameters, and what it was made of."""

    gradient: dict[str, Tensor]
    weights: Tensor
    """(N,) of this process's examples."""
    alignment: Tensor
    """(N,) how much a step of each example by itself would lower the validation loss: alpha a_i of the formula."""
    validation: Tensor
    """L_val at theta'."""

    @property
    def flat(self) -> Tensor:
        return torch.cat([part.reshape(-1) for part in self.gradient.values()])


def descent(rate: float, base: Parameters) -> Moves:
    """Gradient descent from ``base``: where the learner is, or where momentum alone would take it."""

    def moves(gradient: Parameters) -> tuple[Parameters, Parameters]:
        ahead = {name: base[name].detach() - rate * part for name, part in gradient.items()}
        return ahead, {name: torch.full_like(part, rate) for name, part in gradient.items()}

    return moves


def alone(value: Tensor) -> Tensor:
    """The sum over all processes where there is one."""
    return value


def hypergradient(
    network: nn.Module,
    features: Tensor,
    theta: Parameters,
    training: Losses,
    validation: Losses,
    moves: Moves,
    *,
    exact: bool = True,
    over: Sum = alone,
) -> Hypergradient:
    """The gradient at ``theta`` of one batch: ``features`` (N, F) and ``training`` are of its examples in one order.

    ``exact`` False takes a central difference in place of the forward derivative: for models whose operations have
    none. ``over`` adds up over processes, each of which has its own part of both batches.
    """
    theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
    phi = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    weights = functional_call(network, phi, (features,))
    with torch.no_grad():
        total = over(weights.sum())
    weighted = (weights.detach() / total * training(theta)).sum()
    ahead, scale = moves(_gradient(weighted, theta, over))
    ahead = {name: value.detach().requires_grad_() for name, value in ahead.items()}
    losses = validation(ahead)
    count = over(torch.tensor(float(len(losses)), device=losses.device, dtype=losses.dtype))
    direction = {name: scale[name] * part for name, part in _gradient(losses.sum() / count, ahead, over).items()}
    aligned = alignments(training, {name: value.detach() for name, value in theta.items()}, direction, exact=exact)
    with torch.no_grad():
        mean = over((weights / total * aligned).sum())
        outer = -(aligned - mean) / total
    pulled = torch.autograd.grad(weights, list(phi.values()), grad_outputs=outer)
    gradient = {name: over(part) for name, part in zip(phi, pulled, strict=True)}
    told = over(losses.detach().sum()) / count
    return Hypergradient(gradient, weights.detach(), aligned.detach(), told)


def alignments(losses: Losses, theta: Parameters, direction: Parameters, *, exact: bool = True) -> Tensor:
    """(N,) the derivative of each loss at ``theta`` along ``direction``."""
    theta, direction = dict(theta), dict(direction)
    if exact:
        return jvp(losses, (theta,), (direction,))[1]
    length = torch.sqrt(sum((part.double() ** 2).sum() for part in direction.values()))
    if not length:
        return torch.zeros_like(losses(theta))
    size = float(DIFFERENCE / length)

    def at(way: float) -> Tensor:
        return losses({name: value + way * size * direction[name] for name, value in theta.items()})

    with torch.no_grad():
        return (at(1) - at(-1)) / (2 * size)


def _gradient(loss: Tensor, parameters: Parameters, over: Sum) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(parameters.values()))
    return {name: over(part) for name, part in zip(parameters, found, strict=True)}
