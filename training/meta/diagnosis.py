"""Whether learned weights still learn: effective batch, signal and noise of the hypergradient, and when to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

LEAST_EFFECTIVE = 32.0
"""Examples that a batch must be worth; below, one of them decides each step."""
LEAST_SHARE = 0.1
"""Of a batch that its weights must leave."""


class Collapsed(ValueError):
    """The weights have peaked: what is learned from here on is the noise of a few examples."""


@dataclass(frozen=True)
class Weights:
    """Of the weights of one batch."""

    mean: float
    """Before normalisation; it sinks while weights sharpen."""
    largest: float
    """Share of the batch's weight that its heaviest example has."""
    effective: float
    """1 / sum p^2: as many equal examples tell as much."""
    share: float
    """The same over the size of the batch."""

    def metrics(self) -> dict[str, float]:
        return {f"mts/{name}": value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Signal:
    """Of hypergradients of independent batches at one (theta, phi)."""

    batches: int
    signal: float
    """Squared length of the mean, less what its own noise adds."""
    noise: float
    """Sum over parameters of the variance of one batch's gradient."""
    ratio: float
    """GSNR: signal over noise."""
    median: float
    """Of the ratios of single parameters."""
    cosine: float
    """Mean over pairs of independent gradients: ratio / (1 + ratio), if the ratio is right."""

    def metrics(self) -> dict[str, float]:
        return {"mts/gsnr": self.ratio, "mts/gsnr_median": self.median, "mts/gradient_cosine": self.cosine}


def of_weights(weights: Tensor) -> Weights:
    """``weights`` (N,) are not normalised. Raises ValueError where they are all 0 or not finite."""
    total = float(weights.sum())
    if not total > 0 or total == float("inf"):
        raise ValueError(f"the weights of a batch add up to {total}; lower the network's learning rate")
    p = weights.double() / weights.double().sum()
    effective = float(1 / (p**2).sum())
    return Weights(float(weights.mean()), float(p.max()), effective, effective / len(weights))


def of_gradients(gradients: Tensor) -> Signal:
    """``gradients`` (M, P), M of at least 2 independent batches; for a figure to trust, M of 100 and more."""
    batches = len(gradients)
    if batches < 2:
        raise ValueError("signal and noise take the gradients of two batches at least")
    gradients = gradients.double()
    mean, variance = gradients.mean(0), gradients.var(0)
    noise = float(variance.sum())
    signal = max(float((mean**2).sum()) - noise / batches, 0.0)
    own = torch.clamp(mean**2 - variance / batches, min=0) / torch.where(variance > 0, variance, torch.inf)
    unit = gradients / gradients.norm(dim=1, keepdim=True).clamp_min(1e-300)
    pairs = float((unit.sum(0) ** 2).sum() - (unit**2).sum()) / (batches * (batches - 1))
    return Signal(batches, signal, noise, signal / noise if noise else float("inf"), float(own.median()), pairs)


def alarm(weights: Weights, learner_batch: int) -> str:
    """What is wrong with these weights, and what mends it; empty for nothing."""
    if weights.effective < LEAST_EFFECTIVE or weights.share < LEAST_SHARE:
        return (
            f"the weights leave {weights.effective:.1f} effective examples, {weights.share:.1%} of the batch (at least "
            f"{LEAST_EFFECTIVE:g} and {LEAST_SHARE:.0%} are asked): raise the weight floor or the batch"
        )
    if learner_batch * weights.share < LEAST_EFFECTIVE:
        return (
            f"the learner's batch of {learner_batch} is worth {learner_batch * weights.share:.1f} examples under these "
            f"weights; give it {LEAST_EFFECTIVE / weights.share:.0f} or more"
        )
    return ""


def check(weights: Weights, learner_batch: int, alarms: int, patience: int) -> int:
    """Alarms in a row, this one counted. Raises `Collapsed` when they are more than ``patience``."""
    said = alarm(weights, learner_batch)
    if said and alarms >= patience:
        raise Collapsed(f"{alarms + 1} times in a row {said}")
    return alarms + 1 if said else 0
