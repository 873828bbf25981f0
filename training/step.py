"""One update of a run: its batch from the streams, forward and backward in parts, clip, AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from palimpsest.config import Training
from training import documents
from training.data import Sequences
from training.documents import Parts
from training.model import Decoder
from training.optim import AdamW
from training.processes import ALONE, Group, unsynchronized, whole

MICRO_TOKENS = Training.model_fields["micro_tokens"].default
DROPOUT = 3  # a random stream of the run's seed, beside the two of `training.data`


@dataclass(frozen=True)
class Batch:
    """This process's rows of a step's batch, on the device."""

    tokens: Tensor
    """(rows, context + 1) ids: inputs are ``[:, :-1]``, targets ``[:, 1:]``."""
    count: int
    """Targets of the whole batch, over all processes, that the loss is the mean of."""
    most: int
    """Rows of the process that has most of them."""
    segments: Tensor | None = None
    """(rows, context): what each input may attend within; none: the whole window."""
    counted: Tensor | None = None
    """(rows, context): the targets that are learned; none: all."""


@dataclass(frozen=True)
class Feed:
    """The batches of a run as its settings ask for them."""

    sequences: Sequences
    parts: Sequence[Parts] = ()
    """Per stream; needed unless attention is 'across' and the loss on 'all'. For the loss on 'text' they are marked."""
    attention: str = "across"
    loss_on: str = "all"

    def __len__(self) -> int:
        return len(self.sequences)

    def at(self, step: int, device: torch.device, group: Group = ALONE) -> Batch:
        """The batch of a step, counted from 0."""
        sequences = self.sequences
        rows = group.rows(sequences.batch)
        count, found, counted = sequences.batch * sequences.context, None, None
        if self.attention != "across":
            unit = {"documents": "row", "megadocs": "megadoc"}[self.attention]
            found = _on(documents.segments(sequences, self.parts, step, unit)[rows], device)
        if self.loss_on != "all" or sequences.packed:
            learned = self._learned(step)
            count, counted = max(1, int(learned.sum())), _on(learned[rows], device)
        most = -(-sequences.batch // group.world)
        return Batch(_on(sequences.at(step, rows), device), count, most, found, counted)

    def _learned(self, step: int) -> np.ndarray:
        """The targets of the whole batch that are learned, (batch, context)."""
        match self.loss_on:
            case "real":
                return documents.real_targets(self.sequences, self.parts, step)
            case "text":
                return documents.text_targets(self.sequences, self.parts, step)
            case _:
                return self.sequences.targets(step)


def _on(array: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@dataclass
class Learner:
    """What one update changes, and how it is made."""

    model: Decoder
    optimizer: AdamW
    dtype: torch.dtype = torch.float32
    micro_tokens: int = MICRO_TOKENS
    module: nn.Module | None = None
    """To call in place of ``model``: its wrapper where several processes share the run."""
    group: Group = ALONE
    seed: int = 0
    updates: int = field(default=0, init=False)

    def update(self, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """The mean loss over the batch before the update (this process's summand), and the gradient's norm."""
        if self.model.dropout:  # a function of seed and step: a run that was cut off drops the same features again
            place = np.random.SeedSequence([self.seed, DROPOUT, self.updates, self.group.rank])
            torch.manual_seed(int(place.generate_state(1)[0]))
        rows = max(1, self.micro_tokens // (batch.tokens.shape[1] - 1))
        total = torch.zeros((), device=batch.tokens.device)
        starts = range(0, batch.most, rows)
        for start in starts:
            with unsynchronized(self.module or self.model, start != starts[-1]):
                total = total + self._backward(batch, slice(start, start + rows))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optimizer.config.clip)
        self.optimizer.step(lr)
        self.updates += 1
        return total, whole(norm)

    def _backward(self, batch: Batch, rows: slice) -> Tensor:
        spare = rows.start >= len(batch.tokens)  # others have a row more; FSDP needs all to call the model as often
        rows = slice(1) if spare else rows
        tokens = batch.tokens[rows]
        options = {name: getattr(batch, name) for name in ("segments", "counted")}
        options = {name: found[rows] for name, found in options.items() if found is not None}
        loss = (self.module or self.model)(tokens[:, :-1], tokens[:, 1:], self.dtype, **options) / batch.count
        loss = loss * 0 if spare else loss
        # DDP and FSDP take the mean over the processes of what is here a sum
        (loss * self.group.world if self.group.world > 1 else loss).backward()
        return loss.detach()
