"""Our training loop beside a plain Hugging Face one: same model, batch, optimizer settings and machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from palimpsest.config import Model, Optimizer
from training.data import mix
from training.loop import choose_device, choose_precision, train_step
from training.model import Decoder
from training.optim import AdamW

MODEL = Model(layers=2, width=128, mlp=384, heads=2)
VOCAB, CONTEXT, BATCH = 2048, 256, 8
ROUNDS, STEPS = 5, 6


def run() -> list[dict]:
    torch.set_num_threads(1)
    device = choose_device()
    best = choose_precision("auto", device)
    stream = np.random.default_rng(0).integers(0, VOCAB, 100_000).astype("<u2")
    batches = mix({"real": stream}, f=0.0, steps=STEPS, batch=BATCH, block=32, context=CONTEXT, seed=0)
    loops = {"fp32": _ours(batches, torch.float32, device), "hf": _hugging_face(batches, device)}
    if best != torch.float32:
        loops["auto"] = _ours(batches, best, device)
    speeds = {name: BATCH * CONTEXT * STEPS / seconds for name, seconds in _seconds(loops).items()}
    rows = [("train loop in fp32", speeds["fp32"])]
    if "auto" in speeds:
        rows.append((f"train loop as 'auto' chooses ({str(best).removeprefix('torch.')})", speeds["auto"]))
    return [
        {
            "name": f"training: {name}, against a Hugging Face Llama loop",
            "ours": ours,
            "peer": speeds["hf"],
            "unit": "tokens/s",
        }
        for name, ours in rows
    ]


def _seconds(loops: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Best time of each; rounds alternate, so that a busy machine slows all alike."""
    times = {name: [] for name in loops}
    for _ in range(ROUNDS + 1):
        for name, loop in loops.items():
            started = time.perf_counter()
            loop()
            times[name].append(time.perf_counter() - started)
    return {name: min(found[1:]) for name, found in times.items()}


def _ours(batches, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    model = Decoder(MODEL, vocab=VOCAB, context=CONTEXT).to(device)
    optimizer = AdamW(model, Optimizer())

    def loop() -> None:
        for step in range(STEPS):
            batch = torch.from_numpy(batches.at(step)).to(device)
            loss = train_step(model, optimizer, batch, dtype, lr=3e-3)
        loss.item()

    return loop


def _hugging_face(batches, device: torch.device) -> Callable[[], None]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=MODEL.width,
        intermediate_size=MODEL.mlp,
        num_hidden_layers=MODEL.layers,
        num_attention_heads=MODEL.heads,
        max_position_embeddings=CONTEXT,
    )
    model = LlamaForCausalLM(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def loop() -> None:
        for step in range(STEPS):
            tokens = torch.from_numpy(batches.at(step)[:, :-1]).to(device)
            optimizer.zero_grad()
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        loss.item()

    return loop
