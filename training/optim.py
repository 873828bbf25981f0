"""AdamW as the megadocs paper uses it: decay off norms and embeddings, linear warm-up, cosine, global clip."""

from __future__ import annotations

import math

import torch

from palimpsest.config import Optimizer
from training.model import Decoder


def adamw(model: Decoder, config: Optimizer) -> torch.optim.AdamW:
    """The optimizer, fused. Decay is decoupled and scaled by the learning rate: weight *= 1 - lr * decay.

    Norm scales and the embedding are not decayed; an untied output matrix is, as any other matrix.
    """
    decayed = [p for p in model.parameters() if p.dim() == 2 and p is not model.embedding]
    kept = [p for p in model.parameters() if p.dim() != 2 or p is model.embedding]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(step: int, steps: int, config: Optimizer) -> float:
    """Learning rate of a step (from 0): linear over the first ``warmup`` share, then cosine to lr * min_lr_ratio."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
