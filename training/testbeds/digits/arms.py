"""Accuracy that ways to select come to on digits: online, and retrained from scratch on what they prefer.

Every retrained learner takes the same steps on batches of the same size, whatever it was given to choose from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial

import numpy as np
import torch

from training.meta.hypergradient import FLOOR
from training.testbeds.digits import features, learned, learner
from training.testbeds.digits.data import SORTS, Digits, Examples
from training.testbeds.digits.learned import Learned
from training.testbeds.digits.quality import auroc
from training.testbeds.digits.reweighted import reweight
from training.testbeds.digits.weighing import Recipe

KEPT = 0.35
"""Of the generated examples, by score; as many as are good."""
ALPHAS = (0.1, 0.3, 1.0)
"""Of Pointwise Value Matching: what the pool counts beside the target."""
ASKED = ((False, 1024, 1024, 0.0), (True, 1024, 128, 0.0), (True, 1024, 1024, FLOOR))
"""Features, batch of the hypergradient, batch of the learner, floor: what is asked of an implementation."""
OTHERS = (
    (False, 64, 64, 0.0),
    (False, 256, 256, 0.0),
    (True, 64, 64, 0.0),
    (True, 256, 256, 0.0),
    (True, 1024, 1024, 0.0),
    (True, 64, 64, FLOOR),
    (True, 256, 256, FLOOR),
    (True, 64, 1024, FLOOR),
)
"""Both batches together, as in the paper, and the hypergradient's alone."""
REWEIGHTED = 256
COLUMNS = ("auroc", "online", "stopped", "share", "alarms", "alarm")
"""What not every arm has."""

Row = dict[str, object]
Told = tuple[Examples, Row]
Watch = Callable[[str, Mapping[str, object]], AbstractContextManager[learned.Tell]]


def recipes(kinds: Sequence[tuple[bool, int, int, float]]) -> dict[str, Recipe]:
    """By name. None is stopped by its alarms: they are part of what is measured."""
    return {
        f"{'MTS' if told else 'loss alone'} {meta}/{own}{', floor' if floor else ''}": Recipe(
            meta, own, features=told, floor=floor, patience=None
        )
        for told, meta, own, floor in kinds
    }


class Bench:
    """One seed's arms, as they are measured: ``tables`` has accuracies, looks while learning, and features' worth."""

    def __init__(self, data: Digits, known: torch.Tensor, names: list[str], seed: int) -> None:
        self.data, self.known, self.names, self.seed = data, known, names, seed
        self.real, self.generated = np.flatnonzero(data.real), np.flatnonzero(~data.real)
        self.tables: dict[str, list[Row]] = {"arms": [], "trace": [], "carried": []}

    def simple(self) -> None:
        """No weights that are learned beside the learner."""
        data, seed = self.data, self.seed
        real = data.pool.at(self.real)
        lots = np.random.default_rng([seed, 8]).random(len(data.pool))
        good = np.flatnonzero(data.sort <= SORTS.index("good"))
        both = Examples(torch.cat([real.x, data.validation.x]), torch.cat([real.y, data.validation.y]))
        self.add("no selection", lambda: (data.pool, {}))
        self.add("random", lambda: self.scored(lots))
        self.add("real alone", lambda: (real, {}))
        self.add("validation alone", lambda: (data.validation, {}))
        self.add("real and validation", lambda: (both, {}))
        self.add("oracle: good and real", lambda: (data.pool.at(good), {}))
        self.add("Aux-Clf(Val)", self.judged)
        self.add("Aux-Clf(Val), ranked", lambda: self.scored(self.agreement()[1]))
        for alpha in ALPHAS:
            scores = partial(matched, data, self.known, seed, alpha)
            self.add(f"PVM, alpha {alpha:g}", lambda scores=scores: self.scored(scores()))
        again = f"Learning to Reweight {REWEIGHTED}"
        self.add(again, lambda: self.weighed(again, reweight(data, REWEIGHTED, seed)))

    def learn(self, kinds: Sequence[tuple[bool, int, int, float]], watch: Watch) -> None:
        """Weights that are learned; ``watch`` opens, by arm, what is told of every look."""
        for name, recipe in recipes(kinds).items():
            self.add(name, partial(self._learn, name, recipe, watch))

    def add(self, name: str, work: Callable[[], Told]) -> None:
        """A row: what ``work`` tells, its cost, and the accuracy of a learner of what it gives."""
        began, spent = time.monotonic(), time.process_time()
        given, told = work()
        cost = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - spent}
        retrained = learner.accuracy(learner.train(given, self.seed), self.data.test)
        row = {"arm": name, "seed": self.seed, "kept": len(given), "retrained": retrained}
        self.tables["arms"].append({**dict.fromkeys(COLUMNS), **row, **told, **cost})

    def scored(self, scores: np.ndarray, **told: object) -> Told:
        """Real images, and the generated ones of the highest scores."""
        order = np.argsort(-scores[self.generated], kind="stable")[: round(KEPT * len(self.generated))]
        chosen = np.concatenate([self.real, self.generated[order]])
        return self.data.pool.at(chosen), {"auroc": auroc(self.data, scores), **told}

    def weighed(self, name: str, found: Learned) -> Told:
        own = {"arm": name, "seed": self.seed}
        self.tables["trace"] += [{**own, **row} for row in found.trace]
        self.tables["carried"] += [{**own, "feature": key, "lost": lost} for key, lost in found.carried.items()]
        told = {"online": found.online, "stopped": found.stopped, "share": found.share, "alarms": len(found.alarms)}
        return self.scored(found.weights, **told, alarm=found.said)

    def judged(self) -> Told:
        """The auxiliary classifier as a filter: all that it would label as it is labelled, however many."""
        same, score = self.agreement()
        kept = np.concatenate([self.real, self.generated[same[self.generated]]])
        return self.data.pool.at(kept), {"auroc": auroc(self.data, score)}

    def agreement(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether a classifier of the validation images alone gives an image its label, and with which probability."""
        data = self.data
        judge = learner.train(data.validation, self.seed)
        with torch.no_grad():
            output = torch.softmax(learner.logits(judge, data.pool.x), 1)
        same = (output.argmax(1) == data.pool.y).numpy()
        return same, output[torch.arange(len(data.pool)), data.pool.y].numpy()

    def _learn(self, name: str, recipe: Recipe, watch: Watch) -> Told:
        with watch(name, asdict(recipe)) as tell:
            _, found = learned.learn(self.data, self.known, recipe, self.seed, names=self.names, tell=tell)
        return self.weighed(name, found)


def matched(data: Digits, known: torch.Tensor, seed: int, alpha: float) -> np.ndarray:
    """Scores by Pointwise Value Matching (Du et al. 2026, 2610.02092): loss under U less loss under W, regressed.

    U learns the pool, W the validation images and ``alpha`` times the pool, from one start. Each half of the pool is
    scored by what was learned from the other.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    pool = learner.train(data.pool, seed)
    target = learner.train(data.validation, seed, extra=(data.pool, alpha))
    with torch.no_grad():
        value = (learner.losses(data.pool)(pool) - learner.losses(data.pool)(target)).numpy()
    half = np.random.default_rng([seed, 9]).random(len(value)) < 0.5
    scores, inputs = np.zeros(len(value)), known.numpy()
    for own in (half, ~half):
        scores[own] = HistGradientBoostingRegressor(max_iter=60).fit(inputs[~own], value[~own]).predict(inputs[own])
    return scores


def known_of(data: Digits, seed: int) -> tuple[torch.Tensor, list[str]]:
    """What the network is told of the pool, and the columns' names."""
    course = features.dynamics(data, seed, features.EPOCHS[1])
    return features.offline(data, features.position(data), course)
