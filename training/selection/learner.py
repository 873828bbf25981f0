"""A small decoder as a function of its parameters, trained by AdamW on weighted texts, in one process or several.

Several processes divide every batch, and what is read, and add up gradients: each has the same parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from palimpsest.config import ShortTraining
from training.meta.hypergradient import Losses, Parameters
from training.model import Decoder
from training.optim import learning_rate
from training.processes import ALONE, Group

AT_A_TIME = 256
"""Texts that are read together where nothing is learned."""


class Batch(NamedTuple):
    """A window of each text that is this process's, padded to the longest."""

    inputs: Tensor
    """(n, time) ids, of which the first is the boundary, or the token before the window."""
    targets: Tensor
    counted: Tensor
    """(n, time) 1 where a target is no padding."""
    texts: int
    """Of all processes."""


class PerText(nn.Module):
    """The decoder's loss of each text, (n,), in nats per token."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, batch: Batch) -> Tensor:
        logits = self.decoder.logits(batch.inputs)
        nats = cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none").view_as(batch.counted)
        return (nats * batch.counted).sum(1) / batch.counted.sum(1)


class Learner:
    """Parameters ``theta`` and the state of AdamW (as `training.optim` has it, which works on modules)."""

    def __init__(
        self,
        asked: ShortTraining,
        steps: int,
        vocabulary: int,
        boundary: int,
        seed: int,
        device: torch.device,
        group: Group = ALONE,
    ) -> None:
        self.asked, self.steps, self.boundary, self.device, self.group = asked, steps, boundary, device, group
        decoder = Decoder(asked.model, vocab=vocabulary, context=asked.context, seed=seed).to(device)
        self.flops_per_token = decoder.flops_per_token()
        self.module = PerText(decoder)
        self.theta = {name: value.detach().clone() for name, value in self.module.named_parameters()}
        self.first = {name: torch.zeros_like(value) for name, value in self.theta.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.theta.items()}
        self.count = 0

    def batch(self, texts: Sequence[np.ndarray], rng: np.random.Generator | None = None) -> Batch:
        """A window of each text and of the boundary that ends it, this process's part of them: drawn by ``rng``, which
        is alike in all processes.
        """
        starts = [0 if rng is None else rng.integers(max(len(text) + 2 - self.asked.context, 1)) for text in texts]
        own = self.group.rows(len(texts))
        return self._batch(texts[own], starts[own], len(texts))

    def _batch(self, texts: Sequence[np.ndarray], starts: Sequence[int], whole: int) -> Batch:
        rows = []
        for text, start in zip(texts, starts, strict=True):
            ended = np.concatenate([[self.boundary], text, [self.boundary]])
            rows.append(ended[start : start + self.asked.context + 1])
        width = max(map(len, rows)) - 1
        found = np.zeros((3, len(rows), width), np.int64)
        for place, row in enumerate(rows):
            found[0, place, : len(row) - 1], found[1, place, : len(row) - 1] = row[:-1], row[1:]
            found[2, place, : len(row) - 1] = 1
        inputs, targets, counted = torch.from_numpy(found).to(self.device)
        return Batch(inputs, targets, counted.float(), whole)

    def losses(self, batch: Batch) -> Losses:
        return lambda theta: functional_call(self.module, dict(theta), (batch,))

    def moves(self, gradient: Parameters) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Where a step down this gradient leads, and what a unit of gradient moves, second moments held fixed."""
        theta, _, _, scale = self._after(gradient)
        return theta, scale

    def learn(self, batch: Batch, weights: Tensor | None = None) -> None:
        """A step down the mean loss, weighted if there are ``weights`` of any sum, (texts,) of all processes."""
        theta = {name: value.detach().requires_grad_() for name, value in self.theta.items()}
        share = 1 / batch.texts if weights is None else (weights / weights.sum())[self.group.rows(batch.texts)]
        loss = (share * self.losses(batch)(theta)).sum()
        found = [self.group.sum(part) for part in torch.autograd.grad(loss, list(theta.values()))]
        self.theta, self.first, self.second, _ = self._after(dict(zip(theta, found, strict=True)))
        self.count += 1

    @torch.no_grad()
    def read(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) nats per token of the first window of each text."""
        found = np.zeros(len(texts))
        order = np.argsort([len(text) for text in texts], kind="stable")  # alike in length: little padding
        for places in self._own(order, AT_A_TIME):
            found[places] = self.losses(self._first(texts, places))(self.theta).cpu().numpy()
        return self._joined(found)

    @torch.no_grad()
    def gradient_norms(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) length of the gradient of each text's loss in the output matrix.

        That is the sum over tokens of error times hidden state, whose squared length is one of products of pairs.
        """
        found = np.zeros(len(texts))
        module = _Hidden(self.module.decoder)
        output = self.theta["decoder.embedding" if module.decoder.head is None else "decoder.head"]
        for places in self._own(np.arange(len(texts)), AT_A_TIME // 4):
            batch = self._first(texts, places)
            hidden = functional_call(module, self.theta, (batch,))
            error = torch.softmax(hidden @ output.T, -1)
            error.scatter_add_(2, batch.targets[..., None], -torch.ones_like(error[..., :1]))
            error *= (batch.counted / batch.counted.sum(1, keepdim=True))[..., None]
            square = ((error @ error.mT) * (hidden @ hidden.mT)).sum((1, 2))
            found[places] = square.clamp_min(0).sqrt().cpu().numpy()
        return self._joined(found)

    def _own(self, places: np.ndarray, many: int) -> list[np.ndarray]:
        """Every world-th of the pieces of ``places``: those that this process reads."""
        pieces = [places[start : start + many] for start in range(0, len(places), many)]
        return pieces[self.group.rank :: self.group.world]

    def _first(self, texts: Sequence[np.ndarray], places: np.ndarray) -> Batch:
        return self._batch([texts[place] for place in places], [0] * len(places), len(places))

    def _joined(self, found: np.ndarray) -> np.ndarray:
        """What the processes have read, each its pieces and 0 elsewhere."""
        return self.group.sum(torch.from_numpy(found).to(self.device)).cpu().numpy()

    def _after(self, gradient: Parameters) -> tuple[dict[str, Tensor], ...]:
        """Parameters, first and second moments after a step, and the scale of each parameter's own gradient in it."""
        own = self.asked.optimizer
        rate, (beta1, beta2) = learning_rate(self.count, self.steps, own), own.betas
        length = torch.sqrt(sum((part**2).sum() for part in gradient.values()))
        clip = float(torch.clamp(own.clip / length.clamp_min(1e-12), max=1.0))
        theta, first, second, scale = {}, {}, {}, {}
        for name, value in self.theta.items():
            part = clip * gradient[name].detach()
            first[name] = beta1 * self.first[name] + (1 - beta1) * part
            second[name] = beta2 * self.second[name] + (1 - beta2) * part**2
            even = rate / (1 - beta1 ** (self.count + 1))
            below = (second[name] / (1 - beta2 ** (self.count + 1))).sqrt() + own.eps
            decay = 0.0 if _kind(name, value) in own.undecayed else own.weight_decay
            theta[name] = value * (1 - rate * decay) - even * first[name] / below
            scale[name] = even * (1 - beta1) * clip / below
        return theta, first, second, scale


def _kind(name: str, value: Tensor) -> str:
    """What ``undecayed`` calls a parameter."""
    if value.dim() != 2:
        return "norms"
    return {"decoder.embedding": "embedding", "decoder.head": "output"}.get(name, "matrices")


class _Hidden(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, batch: Batch) -> Tensor:
        return self.decoder.hidden(batch.inputs)
