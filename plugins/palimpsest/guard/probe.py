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

from palimpsest.guard.tokens import draw, first, size
from palimpsest.guard.trigram import Trigram

SEEDS = 3
VERIFIER_SEEDS = 5
"""Of the paired choices of G11: a t-test of three would need gains of twice their deviation."""
LEAST = 1_000
"""Tokens of held-out text below which a perplexity says nothing."""


@dataclass(frozen=True)
class Probe:
    """Perplexities of held-out real text, without and with the synthetic text."""

    real_tokens: int
    synthetic_tokens: int
    """Of each seed's draw: as many as R has, or all there are, or as many as were asked for."""
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
    most: int | None = None,
) -> Probe:
    """The probe with a word trigram. All documents are numbered by one vocabulary of ``types`` words.

    ``real`` is all admitted real text; ``learned`` is what the generator was trained on, where this platform knows
    it: what ``real`` lacks of it is added. ``tests`` is held-out real text by domain, ``most`` the synthetic tokens
    that are learned at most. Raises ValueError where R, S or the held-out text is too little.
    """
    whole = union(real, learned)
    held_out = check(whole, synthetic, tests)
    judged = domains_of(tests)
    budget = min(size(whole), size(whole) if most is None else most)
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
    return Probe(size(whole), min(budget, size(synthetic)), size(held_out), overall, tuple(ratios), means)


def verifier_gains(
    real: Sequence[np.ndarray],
    accepted: Sequence[np.ndarray],
    dropped: Sequence[np.ndarray],
    tests: Mapping[str, Sequence[np.ndarray]],
    types: int,
    *,
    learned: Sequence[np.ndarray] = (),
    seeds: int = VERIFIER_SEEDS,
) -> tuple[float, ...]:
    """Per seed, the nats per token of held-out real text that a trigram of R and what a verifier accepted saves
    against one of R and as many tokens taken at random from all that it was shown. Raises ValueError as the probe.
    """
    whole = union(real, learned)
    held_out = check(whole, accepted, tests)
    budget = min(size(whole), size(accepted))
    gains = []
    for seed in range(seeds):
        arms = (Trigram([*whole, *arm], types) for arm in choices(accepted, dropped, budget, seed))
        chosen, anything = (np.log(model.perplexity(held_out)) for model in arms)
        gains.append(float(anything - chosen))
    return tuple(gains)


def choices(
    accepted: Sequence[np.ndarray], dropped: Sequence[np.ndarray], tokens: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """So many tokens of what was accepted, and of everything.

    Both in one random order, so they differ in little else than what the verifier decided.
    """
    everything = [*accepted, *dropped]
    order = np.random.default_rng(seed).permutation(len(everything))
    chosen = (everything[place] for place in order if place < len(accepted))
    return first(chosen, tokens), first((everything[place] for place in order), tokens)


def check(
    whole: Sequence[np.ndarray], synthetic: Sequence[np.ndarray], tests: Mapping[str, Sequence[np.ndarray]]
) -> list[np.ndarray]:
    """All held-out documents; raises ValueError where these, R or S are too little for a probe."""
    held_out = [document for documents in tests.values() for document in documents]
    for name, documents, least in (("real", whole, 1), ("synthetic", synthetic, 1), ("held-out real", held_out, LEAST)):
        if size(documents) < least:
            raise ValueError(f"the additive probe has {size(documents)} tokens of {name} text; it needs {least:,}")
    return held_out


def domains_of(tests: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Sequence[np.ndarray]]:
    """The domains with enough held-out text to be judged by themselves."""
    return {name: documents for name, documents in tests.items() if size(documents) >= LEAST}


def union(real: Sequence[np.ndarray], learned: Sequence[np.ndarray]) -> list[np.ndarray]:
    """R: the real documents, and what the generator learned from beside them."""
    have = {document.tobytes() for document in real} if learned else set()
    return [*real, *(document for document in learned if document.tobytes() not in have)]
