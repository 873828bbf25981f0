"""Pointwise Value Matching: which texts a model of the target would rather have than one of the pool does.

From one start two short trainings: U on the pool, W on the target and alpha times the pool. A text's value is its loss
under U minus its loss under W (Du et al. 2026, 2610.02092); a regression of it on hashed words scores every text, also
those that no model has read (`training.selection.target`). No hypergradient: two trainings, a pass of each over the
pool, a sparse regression.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from palimpsest.config import PVM, Training
from training.selection.found import Scores, by_rank
from training.selection.pool import Pool
from training.selection.target import Read
from training.short import Trainer


def score(pool: Pool, read: Read, asked: PVM, training: Training) -> Scores:
    """Score: value in nats per token, as the regression has it. Weight: by rank, mean 1.

    Features: the measured value and what the text costs under U and under W, nothing for texts over the target's
    documents. Figures: what the models cost on the target and the pool, how often W read the target, and how the
    regression ranks texts that it has not learned from, against their measured values.

    ``training``: of the study; its device, precision and threads are taken. Raises ValueError for models that diverge.
    """
    learned = read.learned
    of_pool, of_target = read.texts(learned), read.texts(read.target)
    trainer = Trainer(training, asked, read.vocabulary, read.boundary)
    share = asked.alpha / (1 + asked.alpha)
    streams = {"pool": ({"pool": of_pool}, 0.0), "target": ({"target": of_target, "pool": of_pool}, share)}
    models = {}
    for name, (texts, f) in streams.items():
        models[name], loss = trainer.train(f"PVM, the {name}", texts, seed=asked.seed, f=f)
        if not np.isfinite(loss):
            raise ValueError(f"the model of PVM, the {name} diverged; lower selection.pvm.optimizer.lr")
    losses, figures = {name: np.full(len(pool), np.nan) for name in models}, {}
    for name, model in models.items():
        losses[name][learned] = trainer.losses(model, of_pool)
        own = {"pool": losses[name][learned], "target": trainer.losses(model, of_target)}
        figures |= {f"loss of the model of the {name} on the {side}": float(own[side].mean()) for side in own}
    value = losses["pool"] - losses["target"]
    predicted = read.regressed(value, asked.ridge)
    passed = asked.steps * asked.batch * asked.context * (1 - share)
    figures["passes over the target"] = passed / sum(len(text) + 1 for text in of_target)
    figures["rank correlation of score and value"] = float(spearmanr(predicted[learned], value[learned]).statistic)
    features = {"value": value, "loss_pool": losses["pool"], "loss_target": losses["target"]}
    tokens = sum(len(text) + 1 for text in (*of_pool, *of_target))
    return Scores(
        predicted,
        by_rank(predicted, pool.origin),
        features,
        figures,
        flops=sum(trainer.flops(m, tokens) for m in models.values()),
    )
