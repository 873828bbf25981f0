"""Learned weights of texts: a network from what is known of a text to its weight, trained beside a small model (MTS).

Du et al. 2026 (2606.00571), for language models. In every step the network is moved so that one step of the model on
the weighted texts lowers the loss on texts of the target more (`training.meta`); attention has no forward derivative on
a CPU, so the alignment of each text is a central difference. The model starts from ``early`` steps without weights,
which are also where features come from (`training.selection.features`). A fifth of the target takes no part in any
gradient: its loss says until when weights are taken, and nothing else. The network sees no words, but it has learned
from texts that it then scores: unlike other scores this one is not cross-fitted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from palimpsest.config import MTS, Training
from training.loop import choose_device
from training.meta import bilevel
from training.meta.diagnosis import Signal, of_gradients
from training.meta.hypergradient import Hypergradient, WeightNet, hypergradient
from training.processes import ALONE, Group
from training.selection import features
from training.selection.found import Scores, scaled
from training.selection.learner import Batch, Learner
from training.selection.pool import Pool
from training.selection.target import Read

HIDDEN = {"features": (100, 100), "loss": (100,)}
"""Layers of the network, by what it is told: those of MTS and of Meta-Weight-Net."""
LOOKS, MEASURED = 20, 4
"""Looks at the weights of all texts while they are learned (up to 39 where the steps are no multiple), and from one to
the next that measures the noise. None does after the last step: there the model's rate is 0, and so are gradients."""
STOPPING = 5
"""Of so many texts of the target one says when to stop."""

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, float], int], None]


class Weighing:
    """The model, the network, and what they are trained on."""

    def __init__(self, given: Read, known: np.ndarray | None, learner: Learner, asked: MTS) -> None:
        """``known``: (n, F) features of every text; none where the network is told its loss."""
        self.given, self.learner, self.asked = given, learner, asked
        self.known = None if known is None else torch.from_numpy(known).to(learner.device)
        target = np.flatnonzero(given.target)
        lots = np.random.default_rng([asked.seed, 22]).permutation(len(target))
        self.stopping, self.held = (target[side] for side in (lots % STOPPING == 0, lots % STOPPING > 0))
        self.learned = torch.from_numpy(np.flatnonzero(given.learned))
        self.windows, self.aside = (np.random.default_rng([asked.seed, number]) for number in (23, 26))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(asked.seed)
            wide = 1 if known is None else known.shape[1]
            self.network = WeightNet(wide, HIDDEN[asked.inputs], asked.floor).to(learner.device)

    def gradient(self, rng: torch.Generator, windows: np.random.Generator | None = None) -> Hypergradient:
        """Its ``weights`` are of all processes. ``windows`` draws where a text is read; default: what the model's own
        windows are drawn by.
        """
        places = self.drawn(rng, self.asked.texts)
        held = torch.from_numpy(self.held)[torch.randint(len(self.held), (self.asked.held,), generator=rng)]
        batch, target = self._batch(places, windows), self._batch(held, windows)
        inputs, own = self.inputs(places, batch), self.learner
        found = hypergradient(
            self.network,
            inputs[own.group.rows(len(places))],
            own.theta,
            own.losses(batch),
            own.losses(target),
            own.moves,
            exact=False,
            over=own.group.sum,
        )
        with torch.no_grad():
            return replace(found, weights=self.network(inputs))

    def signal(self, rng: torch.Generator, count: int) -> Signal:
        """Of windows of its own, so that measuring leaves what is learned as it is."""
        return of_gradients(torch.stack([self.gradient(rng, self.aside).flat for _ in range(count)]))

    def drawn(self, rng: torch.Generator, count: int) -> Tensor:
        return self.learned[torch.randint(len(self.learned), (count,), generator=rng)]

    @torch.no_grad()
    def inputs(self, places: Tensor, batch: Batch) -> Tensor:
        """(n, F): what the network is told now of these texts, whose windows are in ``batch``."""
        if self.known is not None:
            return self.known[places]
        losses = torch.zeros(len(places), device=self.learner.device)
        losses[self.learner.group.rows(len(places))] = self.learner.losses(batch)(self.learner.theta)
        return self.learner.group.sum(losses)[:, None]

    @torch.no_grad()
    def weights(self) -> Tensor:
        """(n,) of every text; by the loss of its first window, where the network is told losses."""
        if self.known is not None:
            return self.network(self.known)
        losses = torch.from_numpy(self.learner.read(self.given.encoded)).float()
        return self.network(losses.to(self.learner.device)[:, None])

    def step(self, places: Tensor) -> None:
        batch = self._batch(places)
        with torch.no_grad():
            weights = self.network(self.inputs(places, batch))
        self.learner.learn(batch, weights)

    def stopping_loss(self) -> float:
        return float(self.learner.read([self.given.encoded[place] for place in self.stopping]).mean())

    def _batch(self, places: Tensor, windows: np.random.Generator | None = None) -> Batch:
        return self.learner.batch([self.given.encoded[place] for place in places.tolist()], windows or self.windows)


@dataclass(frozen=True)
class Learned:
    """What came of it."""

    own: Weighing
    columns: features.Columns
    names: list[str]
    """Of the network's inputs."""
    looks: list[dict[str, float]]
    weights: np.ndarray
    """(n,) averaged over the later half of the looks up to the best: where the loss on the stopping texts was least."""
    best: int
    """Its step."""
    alarms: bilevel.Alarms
    flops: float


def learn(
    pool: Pool,
    given: Read,
    asked: MTS,
    training: Training,
    tell: Tell | None = None,
    shown: Callable[[np.ndarray], Mapping[str, float]] | None = None,
    group: Group = ALONE,
) -> Learned:
    """``tell`` has the figures of every look, and the step; ``shown`` adds figures of the weights of all texts.

    Each process of ``group`` takes its part of every batch, and all come to the same.

    Raises `Collapsed` where the alarm rings too often in a row, ValueError where the model diverges.
    """
    torch.set_num_threads(training.threads)
    steps = asked.early + asked.steps
    device = choose_device(group.local_rank)
    learner = Learner(asked, steps, given.vocabulary, given.boundary, asked.seed, device, group)
    columns, known, names = _known(pool, given, learner, asked)
    own, looks, weights = Weighing(given, known, learner, asked), [], []

    def look(metrics: dict[str, float], done: int) -> None:
        weights.append(own.weights().double().cpu().numpy())
        metrics |= {"mts/stopping_loss": own.stopping_loss(), **(shown(weights[-1]) if shown else {})}
        if not np.isfinite(metrics["mts/stopping_loss"]):
            raise ValueError("the model of MTS diverged; lower selection.mts.optimizer.lr")
        looks.append({"step": done, **metrics})
        shares = f"{metrics['mts/effective']:.0f} of {asked.texts} texts count, loss {metrics['mts/stopping_loss']:.3f}"
        log.info("MTS: step %d of %d, %s", done, asked.steps, shares)
        if tell:
            tell(metrics, done)

    draws = [torch.Generator().manual_seed(1_000_003 * asked.seed + number) for number in (24, 25)]
    every = max(asked.steps // LOOKS, 1)
    alarms = bilevel.learn(
        own,
        asked.batch,
        *draws,
        steps=asked.steps,
        patience=asked.patience,
        look=look,
        every=every,
        measure=MEASURED,
        rate=asked.rate,
    )
    best = int(np.argmin([row["mts/stopping_loss"] for row in looks]))
    taken = np.mean(weights[best // 2 : best + 1], 0)
    return Learned(own, columns, names, looks, taken, looks[best]["step"], alarms, _flops(own, len(pool), looks))


def _known(
    pool: Pool, given: Read, learner: Learner, asked: MTS
) -> tuple[features.Columns, np.ndarray | None, list[str]]:
    """Features, as they are and as the network is told them, and its inputs' names; the learner has its early steps."""
    if asked.inputs == "loss":
        features.early(given, learner, asked.early, asked.seed)
        return {}, None, ["loss"]
    first = learner.group.rank == 0  # makes what hangs on no model, so that all have the same
    columns = learner.group.told(features.position(pool, given) | features.surface(pool) if first else None)
    columns |= features.dynamics(given, learner, asked.early, asked.seed)
    if not all(np.isfinite(own).all() for own in columns.values()):
        raise ValueError("the model of MTS diverged before there were weights; lower selection.mts.optimizer.lr")
    return columns, *features.table(pool, columns)


def score(pool: Pool, given: Read, asked: MTS, training: Training, tell: Tell | None = None) -> Scores:
    """Score: the learned weight, between the floor and 1. Weight: the same, with a mean of 1.

    Features: what the network is told. Figures: of the batch's weights and of the gradient's noise at the end, the
    step until which weights are taken, and how often the alarm rang. Raises as `learn` does.
    """
    return scores(pool, learn(pool, given, asked, training, tell))


def scores(pool: Pool, found: Learned) -> Scores:
    """Of what was learned, as the selection stage has them."""
    last = {key: value for row in found.looks for key, value in row.items()}
    named = {
        "effective share of a batch": "mts/share",
        "largest share of a text": "mts/largest",
        "signal over noise (GSNR)": "mts/gsnr",
        "cosine of independent gradients": "mts/gradient_cosine",
        "loss on the stopping texts": "mts/stopping_loss",
    }
    figures = {name: last[key] for name, key in named.items() if key in last}
    figures |= {"step that was best": float(found.best), "alarms": float(len(found.alarms.steps))}
    return Scores(found.weights, scaled(found.weights, pool.origin), found.columns, figures, flops=found.flops)


def _flops(own: Weighing, texts: int, looks: Sequence[Mapping[str, float]]) -> float:
    """Of the model alone, every text as long as a window: learning is three times reading, a difference reads twice."""
    asked = own.asked
    gradients = asked.steps + sum("mts/gsnr" in row for row in looks) * bilevel.INDEPENDENT
    learned = (asked.early + asked.steps) * asked.batch + gradients * (asked.texts * (1 + 2 / 3) + asked.held)
    if asked.inputs == "features":
        read = (features.LOOKS + 1) * texts
    else:
        read = gradients * asked.texts + asked.steps * asked.batch + len(looks) * texts
    read += len(looks) * len(own.stopping)
    return own.learner.flops_per_token * asked.context * (learned + read / 3)
