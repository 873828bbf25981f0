"""What a model says of chosen targets: their loss, how sure it is of its likeliest token, and whether that is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from training.loss import chunks, token_cross_entropy
from training.model import Decoder


@dataclass(frozen=True)
class Told:
    """Per target, each (targets,)."""

    place: np.ndarray
    nats: np.ndarray
    confidence: np.ndarray
    """Probability of the likeliest token."""
    right: np.ndarray
    """Whether that is the target."""


@torch.no_grad()
def told(model: Decoder, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], dtype: torch.dtype) -> Told:
    """Of the targets of a batch (`training.evaluate.batched`) whose place is not -1; logits of these alone."""
    inputs, targets, place = batch
    device = model.embedding.device
    asked = place >= 0
    hidden = model.hidden(inputs.to(device), dtype)[asked.to(device)]
    wanted, output = targets[asked].to(device), model.output.to(dtype)
    nats, confidence, right = [], [], []
    for rows in chunks(len(wanted), output):
        losses, probabilities = token_cross_entropy(hidden[rows], output, wanted[rows])
        likeliest = probabilities.max(1)
        nats.append(losses.double().cpu())
        confidence.append(likeliest.values.float().cpu())
        right.append((likeliest.indices == wanted[rows]).cpu())
    return Told(place[asked].numpy(), *(torch.cat(parts).numpy() for parts in (nats, confidence, right)))
