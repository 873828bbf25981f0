"""Learning to Reweight (Ren et al. 2018, 1803.09050): the weight of an example is its own alignment."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from training.meta.bilevel import CHECK
from training.meta.diagnosis import alarm, of_weights
from training.meta.hypergradient import alignments
from training.testbeds.digits import learner
from training.testbeds.digits.data import Digits
from training.testbeds.digits.learned import Learned
from training.testbeds.digits.learner import STEPS, generator
from training.testbeds.digits.weighing import Recipe, Weighing


def reweight(data: Digits, batch: int, seed: int, steps: int = STEPS) -> Learned:
    """What came of it, with one batch for weights and learner; without a network, and without a trace.

    From weights of 0 the look-ahead does not move, so that an example's weight is its gradient's product with that of
    the validation loss, or 0 where that is negative. Looks at which all weights are 0 are left out of the averages.

    Raises ValueError where no look of the second half has weights.
    """
    own = Weighing(data, torch.zeros(len(data.pool), 0), Recipe(batch, batch, features=False, floor=0.0), seed)
    rng, looks, alarms, said = generator(seed, 104), [], [], ""
    total, best = torch.zeros(len(data.pool)), (math.inf, 0.0)

    def weigh(places: Tensor) -> Tensor:
        ahead = learner.coasted(own.theta, own.velocity)
        theta = {name: value.requires_grad_() for name, value in ahead.items()}
        loss = learner.losses(data.validation)(theta).mean()
        way = dict(zip(theta, torch.autograd.grad(loss, list(theta.values())), strict=True))
        return alignments(learner.losses(data.pool.at(places)), own.theta, way).clamp_min(0)

    for done in range(1, steps + 1):
        places = own.drawn(rng, batch)
        weights = weigh(places)
        if weights.sum() > 0:
            own.learn(places, weights)
        if done % CHECK:
            continue
        accuracy, stopping = learner.accuracy(own.theta, data.test), learner.loss(own.theta, data.stopping)
        best = min(best, (stopping, accuracy), key=lambda pair: pair[0])
        every = weigh(torch.arange(len(data.pool)))
        if not (weights.any() and every.any()):
            continue  # nothing in the batch, or in the pool, lowers the validation loss: no weights to tell of
        told = of_weights(weights)
        if warning := alarm(told, batch):
            alarms.append(done)
            said = said or warning
        if done > steps // 2:
            total += every / every.mean()
            looks.append((accuracy, told.share))
    if not looks:
        raise ValueError(
            f"Learning to Reweight gave no weights at any look after step {steps // 2} of {steps}: nothing in the pool "
            "lowers the validation loss; check the labels of both, or give it larger batches"
        )
    online, share = np.mean(looks, 0).tolist()
    return Learned((total / len(looks)).numpy(), online, best[1], share, alarms, said, [], {})
