"""CPython's own text, split three ways, and what its trigrams write: the world that the guard's criteria are about."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from palimpsest.guard.corpus import cpython_documents
from palimpsest.guard.experiment import World, world
from palimpsest.guard.measure import Reference
from palimpsest.guard.tokens import size
from palimpsest.guard.trigram import Trigram

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Written:
    """A split of the corpus, its real texts as a reference, and two generations of two generators."""

    world: World
    reference: Reference
    generations: dict[tuple[str, int], list[np.ndarray]]

    def texts(self, decoding: str, depth: int) -> list[str]:
        return [self.world.vocabulary.decode(document) for document in self.generations[decoding, depth]]


@pytest.fixture(scope="session")
def cpython() -> list[str]:
    return cpython_documents()


@pytest.fixture(scope="session")
def written(cpython):
    """By seed, made when first asked for."""

    @functools.cache
    def make(seed: int) -> Written:
        here = world(cpython, seed)
        found = {}
        for decoding in ("pure", "mode-seeking"):
            model, random = here.model, np.random.default_rng([seed, 1])
            for depth in (1, 2):
                found[decoding, depth] = model.sample(size(here.real), random, mode_seeking=decoding != "pure")
                model = Trigram(found[decoding, depth], len(here.vocabulary)) if depth == 1 else model
        spoken = [here.vocabulary.decode(document) for document in here.real]
        return Written(here, Reference(spoken, vocabulary=here.vocabulary), found)

    return make
