"""A Llama-style decoder: RMSNorm, rotary positions (half rotation), SwiGLU, grouped-query attention, no biases.

Parameters stay in fp32; `Decoder.hidden` computes in the dtype it is given. Attention is causal over the whole
window and crosses document boundaries (megadocs paper, section 3.2) unless it is given segments to stay within.
Queries, keys and values share one matrix, gate and up another: fewer, larger products. `training.export` takes them
apart into the Hugging Face names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from palimpsest.config import Model
from training.attention import attend, segment_mask
from training.loss import LinearCrossEntropy, chunks, token_cross_entropy

NORM_EPS = 1e-5
INIT_STD = 0.02


def weight(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns))


def project(x: Tensor, matrix: Tensor) -> Tensor:
    return F.linear(x, matrix.to(x.dtype))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (batch, heads, time, head width), pairing feature i with i + half as in HF Llama."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


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

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask) -> Tensor:
        batch, time, width = x.shape
        qkv = project(x, self.qkv).view(batch, time, -1, self.head_width).transpose(1, 2)
        rotated, values = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        queries, keys = rotate(rotated, cos, sin).split([self.heads, self.kv_heads], dim=1)
        mixed = attend(queries, keys, values, mask)
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
    def __init__(self, config: Model, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = Norm(config.width), Attention(config)
        self.mlp_norm, self.mlp = Norm(config.width), Mlp(config)
        self.dropout = dropout

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask=None) -> Tensor:
        x = x + F.dropout(self.attention(self.attention_norm(x), cos, sin, mask), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.mlp_norm(x)), self.dropout, self.training)


class Decoder(nn.Module):
    """The student. Seeded: the same seed gives the same weights on every device.

    Called as a module it gives what its mode asks for: the summed loss while training, each token's loss otherwise.
    """

    def __init__(
        self,
        config: Model,
        *,
        vocab: int,
        context: int,
        seed: int = 0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.config, self.vocab, self.context = config, vocab, context
        self.dropout, self.label_smoothing = dropout, label_smoothing
        self.embedding = weight(vocab, config.width)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
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

    def forward(self, inputs: Tensor, targets: Tensor, dtype: torch.dtype = torch.float32, **options) -> Tensor:
        """`loss` while training, else `token_losses`: one entry for wrappers that gather parameters around a call."""
        return (self.loss if self.training else self.token_losses)(inputs, targets, dtype, **options)

    def hidden(self, tokens: Tensor, dtype: torch.dtype = torch.float32, segments: Tensor | None = None) -> Tensor:
        """Final hidden states, (batch, time, width), of (batch, time) token ids; time is at most ``context``.

        With ``segments``, (batch, time) integers, a token sees only the tokens before it in its own segment.
        """
        time = tokens.shape[1]
        cos, sin = self.cos[:time].to(dtype), self.sin[:time].to(dtype)
        mask = segment_mask(segments)
        x = F.dropout(F.embedding(tokens, self.embedding).to(dtype), self.dropout, self.training)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        return self.norm(x)

    def logits(self, tokens: Tensor, dtype: torch.dtype = torch.float32, segments: Tensor | None = None) -> Tensor:
        return project(self.hidden(tokens, dtype, segments), self.output)

    def loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        dtype: torch.dtype = torch.float32,
        *,
        segments: Tensor | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Summed next-token cross-entropy in nats, ready for ``backward``; of the ``counted`` targets, if given."""
        hidden, flat = self.hidden(inputs, dtype, segments).flatten(0, 1), targets.flatten()
        if counted is not None:
            hidden, flat = hidden[counted.flatten()], flat[counted.flatten()]
        return LinearCrossEntropy.apply(hidden, self.output, flat, self.label_smoothing)

    @torch.no_grad()
    def token_losses(self, inputs: Tensor, targets: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Next-token cross-entropy in nats of every position, in the shape of ``targets``."""
        hidden, flat = self.hidden(inputs, dtype).flatten(0, 1), targets.flatten()
        output = self.output.to(dtype)
        found = [token_cross_entropy(hidden[rows], output, flat[rows])[0] for rows in chunks(len(flat), output)]
        return torch.cat(found).view(targets.shape)

    def parameter_counts(self) -> dict[str, int]:
        total = sum(p.numel() for p in self.parameters())
        embeddings = self.embedding.numel() + (0 if self.head is None else self.head.numel())
        return {"total": total, "non_embedding": total - embeddings}

    def flops_per_token(self) -> int:
        """Forward and backward: 6 per matrix weight, and causal attention at half the full square."""
        matrices = self.parameter_counts()["non_embedding"] + self.output.numel()
        return 6 * matrices + 6 * self.config.layers * self.context * self.config.width
