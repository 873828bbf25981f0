"""The training loop: steps, held-out losses and checkpoints on the way, a line every few seconds, a clear stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch

from palimpsest.config import Training
from training import documents
from training.checkpoint import Checkpoint, Checkpoints
from training.evaluate import Evaluation, HeldOut, evaluate
from training.failure import diverged, memory_named
from training.live import Live
from training.optim import learning_rate
from training.processes import put, whole
from training.resume import taken_up
from training.rise import Rise
from training.step import Feed, Learner

LOG_SECONDS = 5.0
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
    """Spent in steps; evaluations, checkpoints and what a cut-off run did after its last checkpoint not counted."""


@dataclass
class State:
    """What a run knows of itself besides the learner's tensors."""

    losses: torch.Tensor
    """(steps,) train losses, over all processes up to ``checked``."""
    norms: torch.Tensor
    """(steps,) norms of the gradient before clipping."""
    rise: Rise
    """Has been given the losses up to ``checked``."""
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    checked: int = 0
    """Steps whose losses have been looked at."""
    seconds: float = 0.0


def choose_device(local_rank: int = 0) -> torch.device:
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


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
    learner: Learner,
    feed: Feed,
    held_out: HeldOut,
    training: Training,
    checkpoints: Checkpoints,
    *,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains the model in place over all batches, from the newest checkpoint on.

    The same seed on the same CPU gives the same bits, however often the run is cut off and taken up again.
    """
    steps, group = len(feed), learner.group
    device = learner.model.embedding.device
    rise = Rise(learner.model.vocab, steps, training.optimizer.warmup)
    state = State(torch.zeros(steps, device=device), torch.zeros(steps, device=device), rise)
    with taken_up(name, checkpoints, group) as found:
        if found:
            _restore(learner, state, found)
            log.info("%s: goes on after step %d of %d, from %s", name, found.step, steps, checkpoints.last)
    first = learner.updates
    rates = [learning_rate(step, steps, training.optimizer) for step in range(steps)]
    points = {round(steps * k / training.evaluations) for k in range(1, training.evaluations + 1)}
    live = Live(steps, points, training.batch * training.context)
    look = 1 if device.type == "cpu" else 16  # reading a loss waits for a GPU
    if tracker:
        for step in live.past(first, state.seconds):
            tracker.log_metrics(_metrics(state, step, rates), step)
    started = spoken = time.monotonic()
    for step in range(first + 1, steps + 1):
        begun = time.monotonic()
        with memory_named(name, f"at step {step} of {steps}", training):
            batch = feed.at(step - 1, device, group)
            state.losses[step - 1], state.norms[step - 1] = learner.update(batch, rates[step - 1])
        if step % look and step not in live.fixed:
            state.seconds += time.monotonic() - begun
            continue
        _look(name, learner, feed, state, step, checkpoints)
        loss, now = state.losses[step - 1].item(), time.monotonic()
        state.seconds += now - begun
        if progress:
            progress(step, steps, loss)
        if step in points:
            with memory_named(name, f"evaluating after step {step}", training):
                state.evaluations[step] = evaluate(learner.module or learner.model, held_out, learner.dtype, group)
            if not state.evaluations[step].losses["iid"] < DIVERGED * math.log(learner.model.vocab):
                found = f"held-out loss {state.evaluations[step].losses['iid']:.3g}"
                raise _diverged(name, feed, step, found, checkpoints, rise.good or step)
        if tracker and live.due(step):
            tracker.log_metrics(_metrics(state, step, rates) | live.rate(step, state.seconds), step)
        if step < steps and group.agree(checkpoints.due()):
            _save(learner, state, step, checkpoints)
        if now - spoken >= LOG_SECONDS:
            spoken, rate = now, (step - first) / (now - started)
            log.info(
                "%s: step %d of %d, loss %.3f, %.0f tokens/s, %.0f s left",
                name, step, steps, loss, rate * training.batch * training.context, (steps - step) / rate,
            )  # fmt: skip
    curve = _curve(state, rates, training.batch * training.context)
    return Trained(curve, state.evaluations[steps], state.seconds)


def _look(name: str, learner: Learner, feed: Feed, state: State, step: int, checkpoints: Checkpoints) -> None:
    """Adds up the losses since the last look over all processes, and stops the run if one of them is no loss.

    Or if they have risen for good (`training.rise`): then the step is the first of the rise.
    """
    new = slice(state.checked, step)
    learner.group.sum(state.losses[new])
    limit = DIVERGED * math.log(learner.model.vocab)
    found = zip(state.losses[new].tolist(), state.norms[new].tolist(), strict=True)
    for at, (loss, norm) in enumerate(found, state.checked + 1):
        if not (loss < limit and math.isfinite(norm)):
            what = f"loss {loss:.3g}" + ("" if math.isfinite(norm) else f", gradient {norm:.3g}")
            raise _diverged(name, feed, at, what, checkpoints, state.rise.good or at - 1)
        if risen := state.rise.add(at, loss):
            raise _diverged(name, feed, risen.step, risen.what, checkpoints, state.rise.good)
    state.checked = step


def _diverged(name: str, feed: Feed, step: int, what: str, checkpoints: Checkpoints, good: int) -> ValueError:
    """``good``: the last step whose checkpoint may be named as a good one."""
    ids = documents.of_batch(feed.sequences, feed.parts, step - 1)
    return diverged(name, step, what, ids, checkpoints.until(good))


def _save(learner: Learner, state: State, step: int, checkpoints: Checkpoints) -> None:
    """A checkpoint after ``step``; every process gives its part, the first writes. None of a model with NaN in it."""
    tensors = {"losses": state.losses.cpu(), "norms": state.norms.cpu()}
    finite = True
    for name, parameter in learner.model.named_parameters():
        for kind, tensor in _kinds(learner, parameter).items():
            found = whole(tensor.detach())
            if learner.group.rank == 0:
                tensors[f"{kind}.{name}"] = found.cpu()
                finite = finite and bool(found.isfinite().all())
    if learner.group.rank or not finite:
        return
    model = learner.model
    about = {
        "step": step,
        "steps": len(state.losses),
        "seed": learner.seed,
        "seconds": state.seconds,
        "model": model.config.model_dump(mode="json") | {"vocab": model.vocab, "context": model.context},
        "precision": str(learner.dtype).removeprefix("torch."),
        "device": model.embedding.device.type,
        "processes": learner.group.world,
        "evaluations": {str(at): asdict(found) for at, found in state.evaluations.items()},
    }
    checkpoints.save(tensors, about, state.rise.good)


def _restore(learner: Learner, state: State, checkpoint: Checkpoint) -> None:
    about = checkpoint.about
    here = {
        "precision": str(learner.dtype).removeprefix("torch."),
        "device": learner.model.embedding.device.type,
        "processes": learner.group.world,
    }
    changed = [f"{key} {about[key]}, now {value}" for key, value in here.items() if about[key] != value]
    if changed:
        log.warning("the checkpoint was made with %s: equal up to rounding, not bit for bit", "; ".join(changed))
    with torch.no_grad():
        for name, parameter in learner.model.named_parameters():
            for kind, tensor in _kinds(learner, parameter).items():
                put(tensor, checkpoint.tensor(f"{kind}.{name}"))
            learner.optimizer.count[parameter].fill_(checkpoint.step)
    state.losses.copy_(checkpoint.tensor("losses"))
    state.norms.copy_(checkpoint.tensor("norms"))
    state.evaluations = {int(at): Evaluation(**found) for at, found in about["evaluations"].items()}
    state.checked = learner.updates = checkpoint.step
    state.seconds = about["seconds"]
    for step, loss in enumerate(state.losses[: state.checked].tolist(), 1):
        state.rise.add(step, loss)


def _kinds(learner: Learner, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    optimizer = learner.optimizer
    return {"model": parameter, "first": optimizer.first[parameter], "second": optimizer.second[parameter]}


def _metrics(state: State, step: int, rates: list[float]) -> dict[str, float]:
    found = {
        "train_loss": state.losses[step - 1].item(),
        "learning_rate": rates[step - 1],
        "gradient_norm": state.norms[step - 1].item(),
    }
    if step in state.evaluations:
        losses = state.evaluations[step].losses
        found |= {f"{name}_loss": value for name, value in losses.items() if value is not None}
    return found


def _curve(state: State, rates: list[float], tokens: int) -> pa.Table:
    """One row per step; the held-out losses are null between evaluations."""
    steps = np.arange(1, len(rates) + 1)
    held_out = {
        name: [state.evaluations[step].losses[name] if step in state.evaluations else None for step in steps.tolist()]
        for name in state.evaluations[len(rates)].losses
    }
    columns = {
        "step": steps,
        "tokens": steps * tokens,
        "learning_rate": rates,
        "train_loss": state.losses.cpu().numpy(),
        "gradient_norm": state.norms.cpu().numpy(),
    }
    return pa.table(columns | {name: pa.array(found, pa.float64()) for name, found in held_out.items()})
