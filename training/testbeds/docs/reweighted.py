"""Learning to Reweight (Ren et al. 2018, 1803.09050), of texts: the weight of a text is its own alignment.

That is how much the model's step on it by itself would lower the loss on the target, or 0 where it would raise it; the
loss is taken where the step would lead that has no text in it. There is no network: what is learned is the model alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from palimpsest.config import MTS
from training.loop import choose_device
from training.meta.hypergradient import alignments
from training.selection import features
from training.selection.found import Scores, scaled
from training.selection.learner import Batch, Learner
from training.selection.pool import Pool
from training.selection.target import Read

TEXTS = 256
"""Of a step of the model, which are weighed for it."""
LOOKS = 5
"""At the weights of all texts, spread over the second half of the steps and before the last: there the rate is 0."""


def score(pool: Pool, given: Read, asked: MTS) -> Scores:
    """Score and weight: the mean weight of each text over the looks, 1 where it is as heavy as the pool's mean.

    Steps, sizes and the start are those of ``asked``, but for the model's batch: it reads what is weighed. Looks at
    which all weights are 0 are left out. Raises ValueError where that is all of them.
    """
    learner = Learner(asked, asked.early + asked.steps, given.vocabulary, given.boundary, asked.seed, choose_device())
    features.early(given, learner, asked.early, asked.seed)
    rng = np.random.default_rng([asked.seed, 27])
    learned, target = np.flatnonzero(given.learned), np.flatnonzero(given.target)
    marks = {asked.steps - 1 - asked.steps * look // (2 * LOOKS) for look in range(LOOKS)}
    looks = []

    def batch(places: np.ndarray) -> Batch:
        return learner.batch([given.encoded[place] for place in places], rng)

    def way() -> dict[str, Tensor]:
        """Down the loss on the target, as far as the model's step goes."""
        ahead, scale = learner.moves({name: torch.zeros_like(value) for name, value in learner.theta.items()})
        ahead = {name: value.detach().requires_grad_() for name, value in ahead.items()}
        loss = learner.losses(batch(rng.choice(target, asked.held)))(ahead).mean()
        found = torch.autograd.grad(loss, list(ahead.values()))
        return {name: scale[name] * part for name, part in zip(ahead, found, strict=True)}

    def weights(read: Batch, direction: dict[str, Tensor]) -> Tensor:
        return alignments(learner.losses(read), learner.theta, direction, exact=False).clamp_min(0)

    for done in range(1, asked.steps + 1):
        read = batch(rng.choice(learned, asked.texts))
        found = weights(read, way())
        if found.sum() > 0:
            learner.learn(read, found)
        if done in marks:
            direction = way()
            parts = np.array_split(np.arange(len(pool)), -(-len(pool) // asked.texts))
            every = np.concatenate([weights(batch(part), direction).double().cpu().numpy() for part in parts])
            looks += [every / every.mean()] if every.any() else []
    if not looks:
        raise ValueError("nothing in the pool lowers the loss on the target; give the model more steps, or more text")
    texts = asked.early * asked.batch + asked.steps * (asked.texts * (1 + 2 / 3) + asked.held)
    texts += len(marks) * (asked.held + len(pool) * 2 / 3)
    mean, flops = np.mean(looks, 0), learner.flops_per_token * asked.context * texts
    return Scores(mean, scaled(mean, pool.origin), figures={"looks with weights": float(len(looks))}, flops=flops)
