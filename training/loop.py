"""The training loop: steps, held-out losses on the way, a line every few seconds, a clear stop when it diverges."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch

from palimpsest.config import Training
from training.data import Sequences
from training.evaluate import SETS, Evaluation, HeldOut, evaluate
from training.model import Decoder
from training.optim import AdamW, learning_rate

MICRO_TOKENS = 2**16  # tokens per forward and backward; a larger batch is accumulated
LOG_SECONDS = 5.0
TRACKED_POINTS = 24  # train-loss points sent to the tracker, besides the evaluations
DIVERGED = 3.0  # a loss of so many times ln(vocabulary) is no longer a language model

log = logging.getLogger(__name__)

Progress = Callable[[int, int, float], None]
"""Called with step, steps and the loss."""


class Tracker(Protocol):
    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


@dataclass(frozen=True)
class Trained:
    curve: pa.Table
    final: Evaluation
    seconds: float
    """Spent in steps, evaluations not counted."""


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """fp32 or bf16; 'auto' takes bf16 where the device multiplies it natively (2 to 3 times faster there)."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    wanted = {"auto": native, "bf16": True, "fp32": False}[setting]
    return torch.bfloat16 if wanted else torch.float32


def fit(
    name: str,
    model: Decoder,
    sequences: Sequences,
    held_out: HeldOut,
    training: Training,
    dtype: torch.dtype,
    *,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains the model in place over all sequences; the same seed on the same CPU gives the same bits."""
    steps = len(sequences)
    device, optimizer = model.embedding.device, AdamW(model, training.optimizer)
    losses, rates, evaluations = torch.zeros(steps, device=device), [], {}
    points = {round(steps * k / training.evaluations) for k in range(1, training.evaluations + 1)}
    watched = {round(steps * k / TRACKED_POINTS) for k in range(1, TRACKED_POINTS + 1)} | points
    look = 1 if device.type == "cpu" else 16  # reading a loss waits for a GPU
    started = spoken = time.monotonic()
    evaluating = 0.0
    checked = 0
    for step in range(1, steps + 1):
        rates.append(learning_rate(step - 1, steps, training.optimizer))
        batch = torch.from_numpy(sequences.at(step - 1)).to(device)
        losses[step - 1] = train_step(model, optimizer, batch, dtype, rates[-1])
        if step % look and step not in watched:
            continue
        _check(losses[checked:step], checked, model.vocab, name)
        checked, loss, now = step, losses[step - 1].item(), time.monotonic()
        if progress:
            progress(step, steps, loss)
        if step in points:
            evaluations[step] = evaluate(model, held_out, dtype)
            _check(torch.tensor(evaluations[step].losses["iid"])[None], step - 1, model.vocab, name)
            evaluating += time.monotonic() - now
        if tracker and step in watched:
            tracker.log_metrics(_metrics(loss, rates[-1], evaluations.get(step)), step)
        if now - spoken >= LOG_SECONDS:
            spoken, rate = now, step / (now - started)
            log.info(
                "%s: step %d of %d, loss %.3f, %.0f tokens/s, %.0f s left",
                name, step, steps, loss, rate * training.batch * training.context, (steps - step) / rate,
            )  # fmt: skip
    seconds = time.monotonic() - started - evaluating
    curve = _curve(losses, rates, evaluations, training.batch * training.context)
    return Trained(curve, evaluations[steps], seconds)


def train_step(model: Decoder, optimizer: AdamW, batch: torch.Tensor, dtype: torch.dtype, lr: float) -> torch.Tensor:
    """One update; the mean loss over the batch before it, still on the device."""
    count = batch.shape[0] * (batch.shape[1] - 1)
    total = 0.0
    for part in batch.split(max(1, MICRO_TOKENS // batch.shape[1])):
        loss = model.loss(part[:, :-1], part[:, 1:], dtype) / count
        loss.backward()
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), optimizer.config.clip)
    optimizer.step(lr)
    return total


def _check(losses: torch.Tensor, before: int, vocab: int, run: str) -> None:
    bad = (~(losses < DIVERGED * math.log(vocab))).nonzero()
    if len(bad):
        raise ValueError(
            f"run {run} diverged at step {before + int(bad[0]) + 1}: loss {losses[bad[0]].item():.3g}; "
            "lower training.optimizer.lr or raise its warmup"
        )


def _metrics(loss: float, rate: float, evaluation: Evaluation | None) -> dict[str, float]:
    found = {"train_loss": loss, "learning_rate": rate}
    if evaluation:
        found |= {f"{name}_loss": value for name, value in evaluation.losses.items() if value is not None}
    return found


def _curve(losses: torch.Tensor, rates: list[float], evaluations: dict[int, Evaluation], tokens: int) -> pa.Table:
    """One row per step; the held-out losses are null between evaluations."""
    steps = np.arange(1, len(rates) + 1)
    held_out = {
        name: [evaluations[step].losses[name] if step in evaluations else None for step in steps.tolist()]
        for name in SETS
    }
    columns = {"step": steps, "tokens": steps * tokens, "learning_rate": rates, "train_loss": losses.cpu().numpy()}
    return pa.table(columns | {name: pa.array(found, pa.float64()) for name, found in held_out.items()})
