"""Loss on real held-out documents: whole, one at a time, by set and by position.

The rule: each document is scored by itself. The boundary token goes in first, every token of the document and its
closing boundary are predicted. A document longer than the context is cut into windows without overlap: the first
position of a later window sees one token (the one before it) and nothing earlier. A set's loss is the mean in nats
over all its predicted tokens, so each token counts once, however documents are batched.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from palimpsest.lake import LakeError
from training.processes import ALONE, Group

BATCH_TOKENS = 8192
SETS = {"iid": None, "short": "is_short", "long": "is_long"}


@dataclass(frozen=True)
class HeldOut:
    """The validation documents as padded batches of windows of similar length."""

    batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    """Inputs, targets and, per target, its place in ``sets`` and ``position`` (-1: padding)."""
    sets: dict[str, np.ndarray]
    """Per predicted token: does it belong to the set?"""
    position: np.ndarray
    """Per predicted token: its place in the document, from 1."""


@dataclass(frozen=True)
class Evaluation:
    losses: dict[str, float | None]
    """Nats per token of each set; None where a set has no document."""
    by_position: list[dict[str, float | int]]
    """Over all documents, positions first..last (powers of two): tokens and loss."""


def load(tokens: Path, index: Path, *, dtype: str, boundary: int, context: int) -> HeldOut:
    """Held-out documents from ``validation.bin`` (each with its closing boundary) and its index."""
    stream = np.fromfile(tokens, dtype=np.dtype(dtype).newbyteorder("<")).astype(np.int64)
    rows = pq.read_table(index).to_pylist()
    if not rows:
        raise LakeError(f"{index}: no validation documents; widen the study's 'validation' rule")
    windows, position = [], []
    count = 0
    for row in rows:
        targets = stream[row["start"] : row["start"] + row["tokens"]]
        inputs = np.concatenate([[boundary], targets[:-1]])
        place = np.arange(count, count + len(targets))
        for start in range(0, len(targets), context):
            cut = slice(start, start + context)
            windows.append((inputs[cut], targets[cut], place[cut]))
        position.append(np.arange(1, len(targets) + 1))
        count += len(targets)
    lengths = [row["tokens"] for row in rows]
    sets = {
        name: np.repeat([column is None or bool(row[column]) for row in rows], lengths) for name, column in SETS.items()
    }
    return HeldOut(_batched(windows), sets, np.concatenate(position))


def evaluate(
    model: nn.Module, held_out: HeldOut, dtype: torch.dtype = torch.float32, group: Group = ALONE
) -> Evaluation:
    """Losses of the model (a `Decoder`, or its wrapper) as it is, in fp64 sums over the tokens' losses.

    Several processes divide the batches; all call the model equally often, as FSDP needs them to.
    """
    device = next(model.parameters()).device
    losses = np.zeros(len(held_out.position))
    was_training = model.training
    model.eval()
    for start in range(0, len(held_out.batches), group.world):
        number = start + group.rank
        inputs, targets, place = held_out.batches[min(number, len(held_out.batches) - 1)]
        with torch.no_grad(), _as_written(model):
            found = model(inputs.to(device), targets.to(device), dtype).cpu()
        if number < len(held_out.batches):
            real = place >= 0
            losses[place[real].numpy()] = found[real].double().numpy()
    model.train(was_training)
    if hasattr(model, "reshard"):  # FSDP keeps the outermost parameters gathered for a backward that does not come
        model.reshard()
    if group.world > 1:
        losses = group.sum(torch.from_numpy(losses).to(device)).cpu().numpy()
    return Evaluation(
        {name: float(losses[members].mean()) if members.any() else None for name, members in held_out.sets.items()},
        _by_position(losses, held_out.position),
    )


def _as_written(model: nn.Module) -> AbstractContextManager:
    """Compiled blocks run uncompiled: the compiler would start again for every length of document."""
    compiled = any(module._compiled_call_impl is not None for module in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _batched(windows: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[tuple[torch.Tensor, ...]]:
    windows = sorted(windows, key=lambda window: -len(window[0]))
    batches, start = [], 0
    while start < len(windows):
        width = len(windows[start][0])
        group = windows[start : start + max(1, BATCH_TOKENS // width)]
        padded = [np.full((len(group), width), fill, dtype=np.int64) for fill in (0, 0, -1)]
        for row, window in enumerate(group):
            for target, part in zip(padded, window, strict=True):
                target[row, : len(part)] = part
        batches.append(tuple(torch.from_numpy(array) for array in padded))
        start += len(group)
    return batches


def _by_position(losses: np.ndarray, position: np.ndarray) -> list[dict[str, float | int]]:
    bucket = np.log2(position).astype(int)
    return [
        {
            "first": 2**power,
            "last": 2 ** (power + 1) - 1,
            "tokens": int((bucket == power).sum()),
            "loss": float(losses[bucket == power].mean()),
        }
        for power in range(math.floor(math.log2(position.max())) + 1)
    ]
