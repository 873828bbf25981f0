"""What is known of each example beside its pixels: where it lies, and how a learner without selection takes it.

The list is that of Du et al. 2026 (2606.00571) for vectors: 32 principal components stand for the latent space of an
image generator, and the dynamics are those of early epochs, for later on a learner knows bad examples by heart. Class
and origin go in as they are (one of ten, and a flag): the first layer of the network embeds them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.meta.hypergradient import Parameters
from training.testbeds.digits import learner
from training.testbeds.digits.data import CLASSES, Digits, Examples
from training.testbeds.digits.learner import Theta

COMPONENTS = 32
NEAREST, NEIGHBOURS = 3, 5
EPOCHS = (3, 15, 60)
EARLY = 3
"""Epochs after which gradient norm and error are features of the network; forgetting is counted to the second mark."""
TOLD = (f"gradient_{EARLY}", f"error_{EARLY}", f"forgetting_{EPOCHS[1]}")
"""What of the dynamics the network is told."""
DECAY = 0.9
"""Of the moving average of losses, per epoch."""
ONLINE = (*(f"online_nn{n}" for n in range(1, NEAREST + 1)), "online_center")
META = ("class", "origin")

Columns = dict[str, np.ndarray]


def position(data: Digits) -> Columns:
    """(n,) each, of the whole pool: cosines and ranks in the space of `COMPONENTS` principal components."""
    from sklearn.decomposition import PCA

    x, y, real = data.pool.x.numpy(), data.pool.y.numpy(), data.real
    points = PCA(COMPONENTS, random_state=0).fit_transform(x)
    unit = _unit(points)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)  # nobody is a neighbour of himself
    names = [f"{side}_nn{n}" for side in ("real", "syn") for n in range(1, NEAREST + 1)]
    found = {name: np.zeros(len(x)) for name in ("real_center", "syn_center", *names, "dist_median")}
    for own in range(CLASSES):
        mine = y == own
        for side, members in (("real", mine & real), ("syn", mine & ~real)):
            found[f"{side}_center"][mine] = unit[mine] @ _unit(points[members].mean(0))
            nearest = -np.sort(-cosine[np.ix_(mine, members)], 1)
            for n in range(NEAREST):
                found[f"{side}_nn{n + 1}"][mine] = nearest[:, n]
        far = np.linalg.norm(points[mine] - points[mine].mean(0), axis=1)
        found["dist_median"][mine] = np.abs(far - np.median(far)).argsort().argsort() / mine.sum()
    near = np.argpartition(-cosine, NEIGHBOURS, 1)[:, :NEIGHBOURS]
    weights = np.clip(np.take_along_axis(cosine, near, 1), 0, None)
    found["knn_same"] = ((y[near] == y[:, None]) * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
    return found


def dynamics(data: Digits, seed: int, epochs: int = EPOCHS[-1]) -> Columns:
    """(n,) each, of the whole pool: losses, their moving averages, gradient norms and errors by epoch; forgetting."""
    pool, found = data.pool, {}
    every = -(-len(pool) // learner.BATCH)
    average, before, forgotten = None, torch.zeros(len(pool), dtype=torch.bool), torch.zeros(len(pool))

    def look(done: int, theta: Theta) -> None:
        nonlocal average, before, forgotten
        if done % every:
            return
        epoch = done // every
        with torch.no_grad():
            losses, output = learner.losses(pool)(theta), learner.logits(theta, pool.x)
        average = losses if average is None else DECAY * average + (1 - DECAY) * losses
        right = output.argmax(1) == pool.y
        forgotten += before & ~right
        before = right
        if epoch in EPOCHS:
            norm, error = gradient_norms(theta, pool)
            told = {"loss": losses, "ema_loss": average, "gradient": norm, "error": error, "forgetting": forgotten}
            found.update({f"{name}_{epoch}": value.double().numpy().copy() for name, value in told.items()})

    learner.train(pool, seed, steps=every * epochs, each=look)
    return found


def margin(data: Digits) -> np.ndarray:
    """(n,): cosine to the nearest validation image of the own class less that to the nearest of any other."""
    cosine = _unit(data.pool.x.numpy()) @ _unit(data.validation.x.numpy()).T
    own = data.pool.y.numpy()[:, None] == data.validation.y.numpy()
    return np.where(own, cosine, -1).max(1) - np.where(own, -1, cosine).max(1)


def offline(data: Digits, place: Columns, course: Columns) -> tuple[Tensor, list[str]]:
    """(n, columns) for the network, of mean 0 and variance 1 over the pool, class and origin as they are; the names."""
    columns = place | {name: course[name] for name in TOLD}
    values = np.stack(list(columns.values()), 1)
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)
    known = np.concatenate([values, np.eye(CLASSES)[data.pool.y.numpy()], data.real[:, None]], 1)
    return torch.tensor(known, dtype=torch.float32), [*columns, *[META[0]] * CLASSES, META[1]]


@torch.no_grad()
def online(theta: Parameters, x: Tensor, anchors: Tensor) -> Tensor:
    """(n, 4): cosines of images to the nearest anchors and to their mean, as the learner sees them; unit variance."""
    images, held = (torch.nn.functional.normalize(learner.embed(theta, part), dim=1) for part in (x, anchors))
    center = torch.nn.functional.normalize(learner.embed(theta, anchors).mean(0), dim=0)
    found = torch.cat([(images @ held.T).topk(NEAREST, 1).values, (images @ center)[:, None]], 1)
    return (found - found.mean(0)) / found.std(0).clamp_min(1e-6)


@torch.no_grad()
def gradient_norms(theta: Parameters, of: Examples) -> tuple[Tensor, Tensor]:
    """(n,) length of each example's gradient in all parameters, and (n,) distance of its probabilities from its label.

    The gradient of a layer is the outer product of what came in and what came back, so that lengths multiply.
    """
    hidden = learner.embed(theta, of.x)
    error = torch.softmax(hidden @ theta["weight2"] + theta["bias2"], 1)
    error[torch.arange(len(of)), of.y] -= 1
    back = (error @ theta["weight2"].T) * (hidden > 0)
    square = (error**2).sum(1) * (1 + (hidden**2).sum(1)) + (back**2).sum(1) * (1 + (of.x**2).sum(1))
    return square.sqrt(), error.norm(dim=1)


def _unit(points: np.ndarray) -> np.ndarray:
    return points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-9)
