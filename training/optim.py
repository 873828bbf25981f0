"""AdamW and its learning rate; by default as in the megadocs paper: no decay of norms and embeddings, cosine."""

from __future__ import annotations

import math

import torch

from palimpsest.config import Optimizer
from training.model import Decoder


class AdamW:
    """Fused AdamW. Decay is decoupled and scaled by the learning rate: weight *= 1 - lr * decay.

    What is not decayed the settings say, by default norm scales and the embedding; an untied output matrix then is, as
    any other matrix. It calls the kernel that torch.optim.AdamW(fused=True) calls: making one of those loads torch's
    compiler, 3.4 s per process.
    """

    def __init__(self, model: Decoder, config: Optimizer) -> None:
        self.config = config
        parameters = list(model.parameters())
        kinds = [_kind(model, p) for p in parameters]
        decayed = [p for p, kind in zip(parameters, kinds, strict=True) if kind not in config.undecayed]
        kept = [p for p, kind in zip(parameters, kinds, strict=True) if kind in config.undecayed]
        self.groups = [(decayed, config.weight_decay), (kept, 0.0)]
        self.first = {p: torch.zeros_like(p) for p in parameters}
        self.second = {p: torch.zeros_like(p) for p in parameters}
        self.count = {p: torch.zeros((), device=p.device) for p in parameters}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update from the gradients, which are then cleared."""
        beta1, beta2 = self.config.betas
        for parameters, decay in self.groups:
            if not parameters:
                continue
            counts = [self.count[p] for p in parameters]
            torch._foreach_add_(counts, 1)
            torch._fused_adamw_(
                [shard(p) for p in parameters],
                [shard(p.grad) for p in parameters],
                [shard(self.first[p]) for p in parameters],
                [shard(self.second[p]) for p in parameters],
                [],
                counts,
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                weight_decay=decay,
                eps=self.config.eps,
                amsgrad=False,
                maximize=False,
            )
            for parameter in parameters:
                parameter.grad = None


def _kind(model: Decoder, parameter: torch.Tensor) -> str:
    """What ``undecayed`` calls it; one matrix for input and output is the embedding."""
    if parameter.dim() != 2:
        return "norms"
    return "embedding" if parameter is model.embedding else "output" if parameter is model.head else "matrices"


def shard(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that FSDP has divided; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def learning_rate(step: int, steps: int, config: Optimizer) -> float:
    """Learning rate of a step (from 0): linear over the first ``warmup`` share, then down to lr * min_lr_ratio."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    match config.schedule:
        case "cosine":
            height = (1 + math.cos(math.pi * progress)) / 2
        case "linear":
            height = 1 - progress
        case "constant":
            height = min(1.0, (1 - progress) / config.cooldown) if config.cooldown else 1.0
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * height)
