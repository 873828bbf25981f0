"""What stops a training early, in words that say what to change."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from palimpsest.config import Training

NAMED = 8  # documents in the message; the log has them all
MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|Cannot allocate memory|bad_alloc", re.I)

log = logging.getLogger(__name__)


class Diverged(ValueError):
    """The loss or the gradient is no longer a useful number: trying again with the same settings cannot help."""


class OutOfMemory(ValueError):
    """The run needs more memory than there is: trying again with the same settings cannot help."""


def diverged(run: str, step: int, what: str, documents: Sequence[str], checkpoint: str | None) -> Diverged:
    """Names the step, what was seen, the documents of the step's batch and the last good checkpoint."""
    log.error("%s: documents in the batch of step %d: %s", run, step, " ".join(documents))
    more = f" and {len(documents) - NAMED} more (in the log)" if len(documents) > NAMED else ""
    kept = f"last good checkpoint: {checkpoint}" if checkpoint else "no checkpoint was written before it"
    return Diverged(
        f"run {run} diverged at step {step}: {what}; documents of its batch: {', '.join(documents[:NAMED])}{more}; "
        f"{kept}; lower training.optimizer.lr or raise its warmup"
    )


@contextmanager
def memory_named(run: str, doing: str, training: Training) -> Iterator[None]:
    """Turns an allocation that failed, on a GPU or a CPU, into `OutOfMemory` naming the setting to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not MEMORY.search(str(error)):
            raise
        raise OutOfMemory(
            f"run {run}: out of memory {doing} ({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            f"{_advice(doing, training)}"
        ) from error


def _advice(doing: str, training: Training) -> str:
    windows = training.micro_tokens // training.context
    if doing.startswith("at step") and min(windows, training.batch) > 1:
        return f"lower training.micro_tokens, now {training.micro_tokens} ({windows} windows at once)"
    size = training.model
    smaller = f"lower training.model (layers {size.layers}, width {size.width}) or training.context {training.context}"
    return f"{smaller}, or divide the model: training.parallel fsdp on more training.processes"
