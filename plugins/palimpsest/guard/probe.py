"""The additive probe: what a model of real text loses by learning synthetic text beside it.

perplexity of held-out real text under a model of R + S, over that under a model of R alone. R is *all* real text that
was admitted, the generator's own training text included. That is the trap: with the real part of the mix alone as R,
synthetic text looks like a gain however bad it is, for its generator has seen the real text that was left out.
Below 1 only outside knowledge can bring it: a generator that learned from more than R. Who cannot give all that a
generator learned from as R should not ask (a trigram of half of it passes the worst of them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.guard.tokens import draw, size
from palimpsest.guard.trigram import Trigram

SEEDS = 3
LEAST = 1_000
"""Tokens of held-out text below which a perplexity says nothing."""


@dataclass(frozen=True)
class Probe:
    """Perplexities of held-out real text, without and with the synthetic text."""

    real_tokens: int
    synthetic_tokens: int
    """Of each seed's draw: as many as R has, or all there are."""
    test_tokens: int
    alone: float
    """Under R."""
    ratios: tuple[float, ...]
    """Under R + S over under R, per seed."""
    domains: Mapping[str, float]
    """The mean ratio on each domain's own held-out text, where it has enough."""

    @property
    def ratio(self) -> float:
        return float(np.mean(self.ratios))


def additive_probe(
    real: Sequence[np.ndarray],
    synthetic: Sequence[np.ndarray],
    tests: Mapping[str, Sequence[np.ndarray]],
    types: int,
    *,
    learned: Sequence[np.ndarray] = (),
    seeds: int = SEEDS,
) -> Probe:
    """The probe with a word trigram. All documents are numbered by one vocabulary of ``types`` words.

    ``real`` is all admitted real text; ``learned`` is what the generator was trained on, where this platform knows
    it: what ``real`` lacks of it is added. ``tests`` is held-out real text by domain. Raises ValueError where R, S or
    the held-out text is too little.
    """
    whole = _union(real, learned)
    held_out = [document for documents in tests.values() for document in documents]
    for name, documents, least in (("real", whole, 1), ("synthetic", synthetic, 1), ("held-out real", held_out, LEAST)):
        if size(documents) < least:
            raise ValueError(f"the additive probe has {size(documents)} tokens of {name} text; it needs {least:,}")
    judged = {name: documents for name, documents in tests.items() if size(documents) >= LEAST}
    budget = size(whole)
    base = Trigram(whole, types)
    alone = {name: base.perplexity(documents) for name, documents in judged.items()}
    overall = base.perplexity(held_out)
    del base
    ratios: list[float] = []
    domains: dict[str, list[float]] = {name: [] for name in judged}
    for seed in range(seeds):
        added = draw(synthetic, budget, np.random.default_rng(seed))
        model = Trigram([*whole, *added], types)
        ratios.append(model.perplexity(held_out) / overall)
        for name, documents in judged.items():
            domains[name].append(model.perplexity(documents) / alone[name])
    means = {name: float(np.mean(found)) for name, found in domains.items()}
    return Probe(budget, min(budget, size(synthetic)), size(held_out), overall, tuple(ratios), means)


def _union(real: Sequence[np.ndarray], learned: Sequence[np.ndarray]) -> list[np.ndarray]:
    have = {document.tobytes() for document in real} if learned else set()
    return [*real, *(document for document in learned if document.tobytes() not in have)]
