"""What is known of each text beside its words: where it lies, how a learner takes it early on, and its surface.

The list is that of Du et al. 2026 (2606.00571), translated from images to text: components of hashed words stand for
the latent space of a generator, texts of the target for the validation set, generated texts for the synthetic pool.
Origin and strategy go in as they are: the first layer of the network embeds them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

from training.selection import commonness
from training.selection.learner import Learner
from training.selection.pool import Pool
from training.selection.target import Read

COMPONENTS = 64
NEAREST, NEIGHBOURS = 3, 5
ANCHORS = 4_000
"""Texts a side that others are compared with, at most; also those that the components are taken of, twice as many."""
LOOKS = 3
"""At the learner while it trains without selection, evenly spread over its early steps."""
DECAY = 0.5
"""Of the moving average of losses, per look."""
SOURCES = 16
"""Strategies that are told apart, the largest; more are told as none of them."""
AT_A_TIME = 1_000

Columns = dict[str, np.ndarray]


def position(pool: Pool, given: Read) -> Columns:
    """(n,) each: cosines in the space of the components; never to the text itself, nor to any of its document."""
    points = _components(given.grams)
    documents = np.unique(pool.rows["document_id"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    generated = pool.origin == "synthetic"
    source = np.unique([f"{o}:{s}" for o, s in _sources(pool)], return_inverse=True)[1]
    names = [f"{side}_nn{n}" for side in ("target", "pool") for n in range(1, NEAREST + 1)]
    found = {name: np.zeros(len(points)) for name in ("target_center", "pool_center", *names, "same_source")}
    anchors = {"target": _first(given.target), "pool": _first(generated & given.learned)}
    every = np.concatenate(list(anchors.values()))
    for start in range(0, len(points), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        for side, places in anchors.items():
            near = np.sort(_cosines(points, documents, part, places), 1)[:, ::-1]
            for n in range(NEAREST):
                found[f"{side}_nn{n + 1}"][part] = near[:, n] if near.shape[1] > n else 0
        near = _cosines(points, documents, part, every)
        best = np.argsort(-near, 1)[:, :NEIGHBOURS]
        weight = np.clip(np.take_along_axis(near, best, 1), 1e-9, None)
        same = source[every][best] == source[part, None]
        found["same_source"][part] = (same * weight).sum(1) / weight.sum(1)
    for side, places in anchors.items():
        found[f"{side}_center"] = points @ _unit(points[places].mean(0))
    far = np.zeros(len(points))
    for own in np.unique(source):
        mine = source == own
        away = np.linalg.norm(points[mine] - points[mine].mean(0), axis=1)
        far[mine] = np.abs(away - np.median(away)).argsort().argsort() / mine.sum()
    return found | {"distance_median": far}


def early(
    given: Read, learner: Learner, steps: int, seed: int, look: Callable[[int], None] = lambda done: None
) -> None:
    """So many steps of the learner on even draws of what is learned from; ``look`` is called after each."""
    rng, places = np.random.default_rng([seed, 21]), np.flatnonzero(given.learned)
    for done in range(1, steps + 1):
        drawn = rng.choice(places, learner.asked.batch)
        learner.learn(learner.batch([given.encoded[place] for place in drawn], rng))
        look(done)


def dynamics(given: Read, learner: Learner, steps: int, seed: int) -> Columns:
    """(n,) each, of the learner's `early` steps, which it has then taken."""
    marks, losses = [round(steps * (look + 1) / LOOKS) for look in range(LOOKS)], []

    def look(done: int) -> None:
        if done in marks:
            losses.append(learner.read(given.encoded))

    early(given, learner, steps, seed, look)
    average = losses[0]
    for own in losses[1:]:
        average = DECAY * average + (1 - DECAY) * own
    found = {"loss_early": losses[0], "loss_late": losses[-1], "loss_average": average}
    return found | {"loss_drop": losses[0] - losses[-1], "gradient": learner.gradient_norms(given.encoded)}


def surface(pool: Pool) -> Columns:
    """(n,) each: how common its words are, how long it is, and how far it can be compressed."""
    length, compressed = np.zeros(len(pool)), np.zeros(len(pool))
    for texts in pool.batches():
        for text in texts:
            raw = text.text.encode()
            length[text.place] = np.log1p(len(raw))
            compressed[text.place] = len(zlib.compress(raw)) / max(len(raw), 1)
    return {"commonness": -commonness.score(pool).score, "length": length, "compression": compressed}


def table(pool: Pool, columns: Columns) -> tuple[np.ndarray, list[str]]:
    """(n, F) float32 for a network, of mean 0 and variance 1, then origin and strategy as they are; the names."""
    values = np.stack(list(columns.values()), 1)
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)
    kinds = {"origin": np.array([o for o, _ in _sources(pool)]), "source": np.array([s for _, s in _sources(pool)])}
    names, told = list(columns), [values]
    for name, own in kinds.items():
        sorts, counts = np.unique(own, return_counts=True)
        kept = sorts[np.argsort(-counts, kind="stable")][:SOURCES]
        if len(kept) > 1:  # of one sort there is nothing to tell
            told.append((own[:, None] == kept).astype(float))
            names += [name] * len(kept)
    return np.concatenate(told, 1).astype(np.float32), names


def _sources(pool: Pool) -> list[tuple[str, str]]:
    return [(o, s or "") for o, s in zip(pool.origin.tolist(), pool.rows["strategy"].to_pylist(), strict=True)]


def _components(grams: csr_matrix) -> np.ndarray:
    """(n, `COMPONENTS`) of length 1: principal components of the hashed words, the rare ones counting more."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    weighed = TfidfTransformer(sublinear_tf=False).fit_transform(grams)
    learned = weighed[_first(np.ones(weighed.shape[0], bool), 2 * ANCHORS)]
    count = min(COMPONENTS, learned.shape[0] - 1)
    return _unit(TruncatedSVD(count, random_state=0).fit(learned).transform(weighed))


def _first(side: np.ndarray, most: int = ANCHORS) -> np.ndarray:
    """Places where ``side`` holds, so many of them at most, evenly spread."""
    places = np.flatnonzero(side)
    return places[np.linspace(0, len(places) - 1, min(len(places), most)).astype(int)]


def _cosines(points: np.ndarray, documents: np.ndarray, part: slice, places: np.ndarray) -> np.ndarray:
    cosine = points[part] @ points[places].T
    cosine[documents[part, None] == documents[places]] = -1
    return cosine


def _unit(points: np.ndarray) -> np.ndarray:
    return points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-9)
