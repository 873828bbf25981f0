"""Influence: how much one optimizer step on a text lowers the loss on the target (MATES, Yu et al. 2024, 2406.06046).

A small model learns from the pool for a while. Then it takes a single further step on one text that it has not read,
its loss on the target is read, and the step is taken back; so for a sample of the texts. A regression carries what was
measured to all (`training.selection.target`). In the paper a BERT learns it, from probes of the very model that is
being trained, again at each stage; here a ridge regression on hashed words and the ranks of cheap scores does, once,
from a model of its own.

Steps are small. A whole one on a single text overshoots and costs the target more than it gains, and then what moves
the model least, such as boilerplate, can look best.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import spearmanr

from palimpsest.choice import lot
from palimpsest.config import Influence, Training
from training.evaluate import HeldOut, token_losses
from training.selection.found import Scores, by_rank, ranks
from training.selection.pool import Pool
from training.selection.target import Read
from training.short import Documents, Trainer
from training.step import Batch, Learner

SMALL = 0.1
"""Of the training's highest learning rate: that of a probe, unless the study says."""


def score(pool: Pool, read: Read, found: Mapping[str, Scores], asked: Influence, training: Training) -> Scores:
    """Score: influence in nats per token of the target, as the regression has it. Weight: by rank, mean 1.

    ``found`` has the scores that the regression reads. Features: the measured influence, nothing for texts that were
    not probed. Figures: how many were, what the model costs on the target before any step, the steps' mean influence
    and their spread, how often the model has read the pool, and how the regression ranks texts that it has not learned
    from, against their measured influence.

    ``training``: of the study; its device, precision and threads are taken. Raises ValueError for too little text, or
    a model that diverges.
    """
    lots = _lots(pool)
    probed = sampled(read.learned, lots, asked.probes)
    rest = read.learned.copy()
    rest[probed] = False
    reference = _reference(read, lots, asked)
    trainer = Trainer(training, asked, read.vocabulary, read.boundary)
    of_pool, texts = read.texts(rest), [text[: asked.context] for text in read.texts(probed)]
    learner, loss = trainer.learn("influence", {"pool": of_pool}, seed=asked.seed)
    if not np.isfinite(loss):
        raise ValueError("the model of influence diverged; lower selection.influence.optimizer.lr")
    before, changes = measure(trainer, learner, texts, reference, asked.probe_lr or SMALL * asked.optimizer.lr)
    value = np.full(len(pool), np.nan)
    value[probed] = changes
    beside = [ranks(found[name].score, pool.origin) - 0.5 for name in asked.scores]
    predicted = read.regressed(value, asked.ridge, np.column_stack(beside) if beside else None)
    passed = asked.steps * asked.batch * asked.context / sum(len(text) + 1 for text in of_pool)
    figures = {
        "texts probed": float(len(probed)),
        "loss on the target before a step": before,
        "mean influence": float(changes.mean()),
        "spread of influence": float(changes.std()),
        "passes over the pool": passed,
        "rank correlation of score and value": float(spearmanr(predicted[probed], changes).statistic),
    }
    tokens = sum(3 * (len(text) + 1) for text in texts) + (len(texts) + 1) * sum(len(text) + 1 for text in reference)
    flops = trainer.flops(learner.model, tokens)
    return Scores(predicted, by_rank(predicted, pool.origin), {"influence": value}, figures, flops=flops)


def sampled(learned: np.ndarray, lots: np.ndarray, most: int) -> np.ndarray:
    """Places of the texts to probe, those of the smallest lots; at most half of all, for the model reads the others."""
    eligible = np.flatnonzero(learned)
    return eligible[np.argsort(lots[eligible], kind="stable")[: min(most, len(eligible) // 2)]]


def measure(
    trainer: Trainer, learner: Learner, texts: Documents, reference: Documents, lr: float
) -> tuple[float, np.ndarray]:
    """The loss on the reference, and how much one step of ``lr`` on each text by itself lowers it, in nats per token.

    The step is the learner's own (AdamW with the second moments of its training, clipped), without its momentum, which
    is of other texts, and without weight decay, which would add the same to every influence. It leaves the learner as
    it was, but for these.
    """
    optimizer, held_out = learner.optimizer, trainer.held_out(reference)
    optimizer.groups = [(parameters, 0.0) for parameters, _ in optimizer.groups]
    for moment in optimizer.first.values():
        moment.zero_()
    moments = (optimizer.first, optimizer.second, optimizer.count)
    state = [*learner.model.parameters(), *(tensor for kind in moments for tensor in kind.values())]
    kept = [tensor.detach().clone() for tensor in state]
    before, found = _loss(trainer, learner, held_out), np.zeros(len(texts))
    for number, text in enumerate(texts):
        learner.update(_alone(text, trainer), lr)
        found[number] = before - _loss(trainer, learner, held_out)
        with torch.no_grad():
            torch._foreach_copy_(state, kept)
    return before, found


def _loss(trainer: Trainer, learner: Learner, held_out: HeldOut) -> float:
    return float(token_losses(learner.model, held_out, trainer.dtype).mean())


def _alone(text: np.ndarray, trainer: Trainer) -> Batch:
    """A batch of one text, its closing boundary among its targets unless it fills the window."""
    whole = np.concatenate([[trainer.boundary], text, [trainer.boundary]]).astype(np.int64)
    tokens = torch.from_numpy(whole[None, : trainer.asked.context + 1]).to(trainer.device)
    return Batch(tokens, count=tokens.shape[1] - 1, most=1)


def _lots(pool: Pool) -> np.ndarray:
    """Each text's own number from 0 to 1, another than layouts draw by."""
    columns = zip(pool.rows["strategy"].to_pylist(), pool.rows["id"].to_pylist(), strict=True)
    return np.array([lot(f"probe:{strategy}:{text}") for strategy, text in columns])


def _reference(read: Read, lots: np.ndarray, asked: Influence) -> list[np.ndarray]:
    """Documents of the target, in the order of their lots, up to ``reference_tokens`` and one at least."""
    places = np.flatnonzero(read.target)
    places = places[np.argsort(lots[places], kind="stable")]
    ends = np.cumsum([len(text) + 1 for text in read.texts(places)])
    return read.texts(places[: max(1, int((ends <= asked.reference_tokens).sum()))])
