"""A Llama-style decoder: RMSNorm, rotary positions (half rotation), SwiGLU, grouped-query attention, no biases.

Parameters stay in fp32; `Decoder.forward` computes in the dtype it is given. Attention is causal over the whole
window and crosses document boundaries (megadocs paper, section 3.2). Queries, keys and values share one matrix, gate
and up another: fewer, larger products. `training.export` takes them apart into the Hugging Face names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palimpsest.config import Model

NORM_EPS = 1e-5
INIT_STD = 0.02
DENSE_TIME = 1024
LOGITS = {"cpu": 2**20, "cuda": 2**28}  # logits held at once: on a CPU a chunk stays in the cache


def weight(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns))


def project(x: Tensor, matrix: Tensor) -> Tensor:
    return F.linear(x, matrix.to(x.dtype))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (batch, heads, time, head width), pairing feature i with i + half as in HF Llama."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention over (batch, heads, time, head width); with fewer key heads each serves a group of queries.

    In bf16 on a CPU and up to DENSE_TIME positions, two dense products take half the time of the fused kernel
    (8 x 4 heads x 256 x 32, forward and backward, one Zen 4 core: 11 ms against 21 ms; fp32: 19 against 17).
    """
    batch, heads, time, width = queries.shape
    group = heads // keys.shape[1]
    if queries.device.type != "cpu" or queries.dtype != torch.bfloat16 or time > DENSE_TIME:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=group > 1)
    queries = queries.reshape(-1, time, width)
    keys, values = (x.repeat_interleave(group, dim=1).reshape(-1, time, width) for x in (keys, values))
    future = queries.new_full((time, time), -torch.inf).triu(1).expand(len(queries), -1, -1)
    weights = torch.baddbmm(future, queries, keys.mT, alpha=width**-0.5).softmax(-1)
    return (weights @ values).view(batch, heads, time, width)


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.scale.shape, self.scale.to(x.dtype), NORM_EPS)


class Attention(nn.Module):
    def __init__(self, config: Model) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.head_width = config.width // config.heads
        self.qkv = weight((self.heads + 2 * self.kv_heads) * self.head_width, config.width)
        self.out = weight(config.width, config.width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, width = x.shape
        qkv = project(x, self.qkv).view(batch, time, -1, self.head_width).transpose(1, 2)
        rotated, values = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        queries, keys = rotate(rotated, cos, sin).split([self.heads, self.kv_heads], dim=1)
        mixed = attend(queries, keys, values)
        return project(mixed.transpose(1, 2).reshape(batch, time, width), self.out)


class Mlp(nn.Module):
    def __init__(self, config: Model) -> None:
        super().__init__()
        self.gate_up = weight(2 * config.mlp, config.width)
        self.down = weight(config.width, config.mlp)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(x, self.gate_up).chunk(2, dim=-1)
        return project(F.silu(gate) * up, self.down)


class Block(nn.Module):
    def __init__(self, config: Model) -> None:
        super().__init__()
        self.attention_norm, self.attention = Norm(config.width), Attention(config)
        self.mlp_norm, self.mlp = Norm(config.width), Mlp(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nn.Module):
    """The student. Seeded: the same seed gives the same weights on every device."""

    def __init__(self, config: Model, *, vocab: int, context: int, seed: int = 0) -> None:
        super().__init__()
        self.config, self.vocab, self.context = config, vocab, context
        self.embedding = weight(vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config.width)
        self.head = None if config.tied else weight(vocab, config.width)
        half = config.width // config.heads // 2
        frequencies = config.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0, INIT_STD, generator=random)

    @property
    def output(self) -> Tensor:
        """The output matrix, (vocab, width)."""
        return self.embedding if self.head is None else self.head

    def forward(self, tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Final hidden states, (batch, time, width), of (batch, time) token ids; time is at most ``context``."""
        time = tokens.shape[1]
        cos, sin = self.cos[:time].to(dtype), self.sin[:time].to(dtype)
        x = F.embedding(tokens, self.embedding).to(dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        return project(self(tokens, dtype), self.output)

    def loss(self, inputs: Tensor, targets: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Summed next-token cross-entropy in nats, ready for ``backward``."""
        return LinearCrossEntropy.apply(self(inputs, dtype).flatten(0, 1), self.output, targets.flatten())

    @torch.no_grad()
    def token_losses(self, inputs: Tensor, targets: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Next-token cross-entropy in nats of every position, in the shape of ``targets``."""
        hidden, flat = self(inputs, dtype).flatten(0, 1), targets.flatten()
        output = self.output.to(dtype)
        found = [_chunk(hidden[rows], output, flat[rows])[0] for rows in _chunks(len(flat), output)]
        return torch.cat(found).view(targets.shape)

    def parameter_counts(self) -> dict[str, int]:
        total = sum(p.numel() for p in self.parameters())
        embeddings = self.embedding.numel() + (0 if self.head is None else self.head.numel())
        return {"total": total, "non_embedding": total - embeddings}

    def flops_per_token(self) -> int:
        """Forward and backward: 6 per matrix weight, and causal attention at half the full square."""
        matrices = self.parameter_counts()["non_embedding"] + self.output.numel()
        return 6 * matrices + 6 * self.config.layers * self.context * self.config.width


class LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies of ``hidden @ output.T`` against targets, a chunk of logits at a time.

    Both gradients are computed on the way forward, while a chunk's probabilities are at hand, so the whole logits
    (tokens x vocab) never exist and nothing is computed twice.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, output: Tensor, targets: Tensor) -> Tensor:
        matrix = output.to(hidden.dtype)
        hidden_grad = torch.empty_like(hidden)
        output_grad = torch.zeros_like(output, dtype=torch.float32)
        total = torch.zeros((), device=hidden.device)
        for rows in _chunks(len(targets), output):
            losses, probabilities = _chunk(hidden[rows], matrix, targets[rows])
            total += losses.sum()
            probabilities.scatter_add_(1, targets[rows, None], -torch.ones_like(losses)[:, None])
            error = probabilities.to(hidden.dtype)
            torch.mm(error, matrix, out=hidden_grad[rows])
            output_grad += error.T @ hidden[rows]
        ctx.save_for_backward(hidden_grad, output_grad)
        return total

    @staticmethod
    def backward(ctx, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_grad, output_grad = ctx.saved_tensors
        return hidden_grad * scale.to(hidden_grad.dtype), output_grad * scale, None


def _chunks(rows: int, output: Tensor) -> list[slice]:
    step = max(1, LOGITS.get(output.device.type, LOGITS["cuda"]) // len(output))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _chunk(hidden: Tensor, matrix: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and probabilities in fp32."""
    logits = (hidden @ matrix.T).float()
    logits -= logits.amax(1, keepdim=True)
    right = logits.gather(1, targets[:, None])
    weights = logits.exp_()
    total = weights.sum(1, keepdim=True)
    return (total.log() - right).squeeze(1), weights.div_(total)
