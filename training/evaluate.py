"""Loss on held-out documents: whole, one at a time, by set, by position and by their length.

The rule: each document is scored by itself. The boundary token goes in first, every token of the document and its
closing boundary are predicted. A document longer than the context is cut into windows without overlap: the first
position of a later window sees one token (the one before it) and nothing earlier. A set's loss is the mean in nats
over all its predicted tokens, so each token counts once, however documents are batched. 'iid' is the study's own
held-out documents, 'short' and 'long' are among them; the sets the study names are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from palimpsest.lake import LakeError
from training.processes import ALONE, Group

BATCH_TOKENS = 8192
SETS = {"iid": None, "short": "is_short", "long": "is_long"}


Windows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Inputs, targets and, per target, its place among all targets."""


@dataclass(frozen=True)
class HeldOut:
    """The validation documents as padded batches of windows of similar length."""

    batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    """Inputs, targets and, per target, its place in ``sets``, ``position`` and ``length`` (-1: padding)."""
    sets: dict[str, np.ndarray]
    """Per predicted token: does it belong to the set?"""
    position: np.ndarray
    """Per predicted token: its place in the document, from 1."""
    length: np.ndarray
    """Per predicted token: the tokens of its document, the closing boundary among them."""


@dataclass(frozen=True)
class Evaluation:
    losses: dict[str, float | None]
    """Nats per token of each set; None where a set has no document."""
    by_position: list[dict[str, float | int]]
    """Over the study's own documents, positions first..last (powers of two): tokens and loss."""
    by_length: list[dict[str, float | int]] = field(default_factory=list)
    """The same over documents of first..last tokens, and how many these are."""
    sets: dict[str, dict] = field(default_factory=dict)
    """Per set that the study names: documents, tokens, by_position, by_length."""
    by_document: list[float] = field(default_factory=list)
    """Nats of every document, all its tokens added up, in the order of the index."""


def load(tokens: Path, index: Path, *, dtype: str, boundary: int, context: int) -> HeldOut:
    """Held-out documents from ``validation.bin`` (each with its closing boundary) and its index."""
    stream = np.fromfile(tokens, dtype=np.dtype(dtype).newbyteorder("<")).astype(np.int64)
    rows = pq.read_table(index).to_pylist()
    if all(row["set"] for row in rows):
        raise LakeError(f"{index}: no validation documents; widen the study's 'validation' rule")
    windows = []
    count = 0
    for row in rows:
        targets = stream[row["start"] : row["start"] + row["tokens"]]
        inputs = np.concatenate([[boundary], targets[:-1]])
        place = np.arange(count, count + len(targets))
        for start in range(0, len(targets), context):
            cut = slice(start, start + context)
            windows.append((inputs[cut], targets[cut], place[cut]))
        count += len(targets)
    lengths = [row["tokens"] for row in rows]
    members = {
        name: [row["set"] is None and (column is None or bool(row[column])) for row in rows]
        for name, column in SETS.items()
    }
    members |= {
        name: [row["set"] == name for row in rows] for name in dict.fromkeys(row["set"] for row in rows) if name
    }
    return HeldOut(
        batched(windows),
        {name: np.repeat(found, lengths) for name, found in members.items()},
        np.concatenate([np.arange(1, length + 1) for length in lengths]),
        np.repeat(lengths, lengths),
    )


def evaluate(
    model: nn.Module, held_out: HeldOut, dtype: torch.dtype = torch.float32, group: Group = ALONE
) -> Evaluation:
    """Losses of the model (a `Decoder`, or its wrapper) as it is, in fp64 sums over the tokens' losses.

    Several processes divide the batches; all call the model equally often, as FSDP needs them to.
    """
    return summarize(token_losses(model, held_out, dtype, group), held_out)


def token_losses(
    model: nn.Module, held_out: HeldOut, dtype: torch.dtype = torch.float32, group: Group = ALONE
) -> np.ndarray:
    """Nats of every predicted token, (tokens,) in fp64, in the order of ``held_out.position``."""
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
    return losses


def summarize(losses: np.ndarray, held_out: HeldOut) -> Evaluation:
    """What the losses of all predicted tokens come to, by set, position and length."""
    own, *named = (name for name in held_out.sets if name == "iid" or name not in SETS)
    tables = {name: _tables(losses, held_out, held_out.sets[name]) for name in (own, *named)}
    return Evaluation(
        {name: float(losses[members].mean()) if members.any() else None for name, members in held_out.sets.items()},
        tables[own]["by_position"],
        tables[own]["by_length"],
        {name: tables[name] for name in named},
        np.add.reduceat(losses, np.flatnonzero(held_out.position == 1)).tolist(),
    )


def _tables(losses: np.ndarray, held_out: HeldOut, members: np.ndarray) -> dict:
    losses, position, length = losses[members], held_out.position[members], held_out.length[members]
    starts = position == 1
    return {
        "documents": int(starts.sum()),
        "tokens": len(losses),
        "by_position": _buckets(losses, position),
        "by_length": [
            {**row, "documents": int(((row["first"] <= length) & (length <= row["last"]) & starts).sum())}
            for row in _buckets(losses, length)
        ],
    }


def _as_written(model: nn.Module) -> AbstractContextManager:
    """Compiled blocks run uncompiled: the compiler would start again for every length of document."""
    compiled = any(module._compiled_call_impl is not None for module in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def batched(windows: Sequence[Windows]) -> list[tuple[torch.Tensor, ...]]:
    """Windows of similar length side by side, the longest first; padding has place -1."""
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


def _buckets(losses: np.ndarray, value: np.ndarray) -> list[dict[str, float | int]]:
    """Mean losses where the value is from 2^k to 2^(k+1) - 1, for every k that occurs."""
    power = np.log2(value).astype(int)
    return [
        {
            "first": 2**k,
            "last": 2 ** (k + 1) - 1,
            "tokens": int((power == k).sum()),
            "loss": float(losses[power == k].mean()),
        }
        for k in np.unique(power).tolist()
    ]
