"""Every way to score a pool, by the name that study files call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from palimpsest import tokenizer
from palimpsest.choice import lot
from palimpsest.config import Study
from palimpsest.lake import Published
from training.selection import classifier, commonness, likelihood
from training.selection.found import Scores, by_rank, ranks
from training.selection.pool import Pool

CHEAP = {"commonness": commonness.score, "likelihood": likelihood.score, "classifier": classifier.score}


def score(
    method: str,
    pool: Pool,
    found: Mapping[str, Scores],
    study: Study,
    split: Published,
    made: Sequence[Published] = (),
) -> Scores:
    """The scores of one method; ``found`` are those so far, that others are made of.

    ``made``: what 'meta_rater' has trained (`training.selection.proxies.every`).
    """
    match method:
        case "random":
            return at_random(pool)
        case "rank":
            return average({name: found[name] for name in study.selection.rank}, pool.origin)
        case "meta_rater":
            from training.selection import meta_rater

            return meta_rater.score(study.selection.meta_rater, found, pool.origin, made)
        case "pvm":
            from training.selection import pvm  # torch is loaded where something is trained

            return pvm.score(pool, study, tokenizer.load(split.file("tokenizer.json")))
        case "influence":
            from training.selection import influence

            return influence.score(pool, found, study, tokenizer.load(split.file("tokenizer.json")))
    return CHEAP[method](pool)


def at_random(pool: Pool) -> Scores:
    """The text's own lot, and even weights: what every other score must beat."""
    columns = zip(pool.rows["strategy"].to_pylist(), pool.rows["id"].to_pylist(), strict=True)
    lots = np.array([lot(f"{strategy}:{text}" if strategy else text) for strategy, text in columns])
    return Scores(lots, np.ones(len(pool)))


def average(scores: Mapping[str, Scores], origin: np.ndarray) -> Scores:
    """The mean of the ranks that each score gives a text within its origin. Weight: by the rank of that mean.

    Two scores that err on different texts: of the documentation of CPython, half of it degraded, the average kept more
    of what was worth learning than either (the project's default until a learned score beats it).
    """
    own = {name: ranks(found.score, origin) for name, found in scores.items()}
    mean = np.mean(list(own.values()), axis=0)
    return Scores(mean, by_rank(mean, origin), {f"rank_{name}": values for name, values in own.items()})
