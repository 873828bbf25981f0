"""Cross-entropy fused with the output matrix: the logits of a whole batch never exist."""

from __future__ import annotations

import torch
from torch import Tensor

LOGITS = {"cpu": 2**20, "cuda": 2**28}  # logits held at once: on a CPU a chunk stays in the cache


class LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies of ``hidden @ output.T`` against targets, a chunk of logits at a time.

    Both gradients are computed on the way forward, while a chunk's probabilities are at hand, so the whole logits
    (tokens x vocab) never exist and nothing is computed twice. With label smoothing s the target of a token is
    1 - s, and s spread evenly over the vocabulary (the token included), as in torch's ``cross_entropy``.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, output: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        matrix = output.to(hidden.dtype)
        hidden_grad = torch.empty_like(hidden)
        output_grad = torch.zeros_like(output, dtype=torch.float32)
        total = torch.zeros((), device=hidden.device)
        for rows in chunks(len(targets), output):
            losses, probabilities = token_cross_entropy(hidden[rows], matrix, targets[rows], smoothing)
            total += losses.sum()
            probabilities.scatter_add_(1, targets[rows, None], torch.full_like(losses, smoothing - 1)[:, None])
            if smoothing:
                probabilities -= smoothing / len(output)
            error = probabilities.to(hidden.dtype)
            torch.mm(error, matrix, out=hidden_grad[rows])
            output_grad += error.T @ hidden[rows]
        ctx.save_for_backward(hidden_grad, output_grad)
        return total

    @staticmethod
    def backward(ctx, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad, output_grad = ctx.saved_tensors
        return hidden_grad * scale.to(hidden_grad.dtype), output_grad * scale, None, None


def chunks(rows: int, output: Tensor) -> list[slice]:
    step = max(1, LOGITS.get(output.device.type, LOGITS["cuda"]) // len(output))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def token_cross_entropy(
    hidden: Tensor, matrix: Tensor, targets: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Losses, (rows,), and probabilities, (rows, vocab), in fp32; ``hidden`` and ``matrix`` in the same dtype."""
    logits = (hidden @ matrix.T).float()
    logits -= logits.amax(1, keepdim=True)
    right = logits.gather(1, targets[:, None])
    if smoothing:
        right = (1 - smoothing) * right + smoothing * logits.mean(1, keepdim=True)
    weights = logits.exp_()
    total = weights.sum(1, keepdim=True)
    return (total.log() - right).squeeze(1), weights.div_(total)
