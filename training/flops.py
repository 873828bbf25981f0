"""FLOPs of a training, from its settings alone: what runs are matched by and what a study is reckoned to cost."""

from __future__ import annotations

from palimpsest.config import Model


def flops_per_token(model: Model, vocabulary: int, context: int) -> int:
    """`Decoder.flops_per_token` of a model that is not made: 1.5B parameters are 6 GB."""
    width, head = model.width, model.width // model.heads
    attention = (model.heads + 2 * (model.kv_heads or model.heads)) * head * width + width * width
    norms = 2 * width * model.layers + width
    matrices = model.layers * (attention + 3 * width * model.mlp) + norms + vocabulary * width
    return 6 * matrices + 6 * model.layers * context * width
