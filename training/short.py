"""Short trainings by the platform's own trainer, and what their models make of single texts."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from palimpsest.config import ShortTraining, Training
from training import data
from training.evaluate import HeldOut, batched, token_losses
from training.loop import LOG_SECONDS, choose_device, choose_precision
from training.model import Decoder
from training.optim import learning_rate
from training.run import make_learner
from training.step import Feed, Learner

Documents = Sequence[np.ndarray]
AT_A_TIME = 2_000
"""Texts whose windows are in memory."""

log = logging.getLogger(__name__)


class Trainer:
    """Models of one shape and start, trained for as many steps each on other text."""

    def __init__(self, own: Training, asked: ShortTraining, vocabulary: int, boundary: int) -> None:
        """``own``: of the study that it is for; its device, precision and threads are taken."""
        self.training = Training(
            model=asked.model,
            optimizer=asked.optimizer,
            context=asked.context,
            batch=asked.batch,
            micro_tokens=own.micro_tokens,
            compile="off",  # compiling would take longer than it saves
        )
        torch.set_num_threads(own.threads)
        self.asked = asked
        self.vocabulary, self.boundary = vocabulary, boundary
        self.device = choose_device()
        self.dtype = choose_precision(own.precision, self.device)

    def train(
        self, name: str, streams: Mapping[str, Documents], *, seed: int, f: float = 0.0, block: int | None = None
    ) -> tuple[Decoder, float]:
        """A fresh model of the streams and its last training loss, as `learn` has them."""
        learner, loss = self.learn(name, streams, seed=seed, f=f, block=block)
        return learner.model, loss

    def learn(
        self, name: str, streams: Mapping[str, Documents], *, seed: int, f: float = 0.0, block: int | None = None
    ) -> tuple[Learner, float]:
        """A fresh model that has learned the streams, the first at 1 - f and the second at f; its last training loss.

        ``block``: the sequences within which that share is exact (`training.data`); default: all, so that a small share
        too is as many sequences as it says.
        """
        asked = self.asked
        joined = {key: self._joined(documents) for key, documents in streams.items()}
        learner = make_learner(self.training, seed, self.vocabulary, self.device, self.dtype)
        shape = {
            "steps": asked.steps,
            "batch": asked.batch,
            "block": block or asked.steps * asked.batch,
            "context": asked.context,
        }
        feed, spoken, loss = Feed(data.mix(joined, f=f, **shape, seed=seed)), time.monotonic(), torch.zeros(())
        for step in range(asked.steps):
            rate = learning_rate(step, asked.steps, asked.optimizer)
            loss, _ = learner.update(feed.at(step, self.device), rate)
            if time.monotonic() - spoken >= LOG_SECONDS:
                spoken = time.monotonic()
                log.info("%s: step %d of %d, loss %.3f", name, step + 1, asked.steps, float(loss))
        return learner, float(loss)

    def losses(self, model: Decoder, documents: Documents) -> np.ndarray:
        """Nats per token of each text by itself, its closing boundary among its tokens."""
        parts = [documents[start : start + AT_A_TIME] for start in range(0, len(documents), AT_A_TIME)]
        return np.concatenate([np.zeros(0), *(self._losses(model, part) for part in parts)])

    def _losses(self, model: Decoder, documents: Documents) -> np.ndarray:
        owners = np.repeat(np.arange(len(documents)), [len(document) + 1 for document in documents])
        nats = token_losses(model, self.held_out(documents), self.dtype)
        return np.bincount(owners, weights=nats) / np.bincount(owners)

    def held_out(self, documents: Documents) -> HeldOut:
        """The texts, each by itself, to be read with `training.evaluate.token_losses`."""
        windows, lengths = windowed(documents, self.boundary, self.asked.context)
        every = np.ones(sum(lengths), np.int64)
        return HeldOut(batched(windows), {}, every, every)

    def flops(self, model: Decoder, tokens: int) -> float:
        """Of training a model and of reading so many tokens with it: a third of what learning them takes."""
        return model.flops_per_token() * (self.asked.steps * self.asked.batch * self.asked.context + tokens / 3)

    def _joined(self, documents: Documents) -> np.ndarray:
        return np.concatenate([np.append(document, self.boundary) for document in documents]).astype(np.int32)


def windowed(documents: Documents, boundary: int, context: int) -> tuple[list[tuple], list[int]]:
    """Every document by itself, as `training.evaluate` scores one: inputs, targets and places of its windows; lengths.

    A document is as long as its tokens and the boundary that ends it.
    """
    windows, lengths, start = [], [], 0
    for document in documents:
        targets = np.append(document, boundary).astype(np.int64)
        inputs = np.concatenate([[boundary], targets[:-1]])
        place = np.arange(start, start + len(targets))
        cuts = [slice(first, first + context) for first in range(0, len(targets), context)]
        windows += [(inputs[cut], targets[cut], place[cut]) for cut in cuts]
        lengths.append(len(targets))
        start += len(targets)
    return windows, lengths
