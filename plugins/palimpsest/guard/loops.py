"""Models that learn from models: generations of a trigram under replace, accumulate and accumulate-subsample.

Tier 0 of the collapse experiments (Shumailov et al. 2024; Gerstgrasser et al. 2024, 2404.01413; Kazdan et al. 2024,
2410.16713). Generation 0 learns from real text R; generation g learns from scratch from the mix that its policy makes
of R and of what models 0 to g-1 wrote, each |R| tokens. Every arm has |R| tokens to learn from, accumulate grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palimpsest.guard.tokens import draw, size
from palimpsest.guard.trigram import Trigram

Documents = list[np.ndarray]
Policy = Literal["replace", "accumulate", "subsample"]


@dataclass(frozen=True)
class Arm:
    policy: Policy
    real: float = 0.0
    """Replace: the share of real tokens. Subsample: their least share (a plain draw from the pool has 1/(g+1))."""
    mode_seeking: bool = False

    @property
    def name(self) -> str:
        share = "" if self.policy == "accumulate" or (self.policy == "subsample" and not self.real) else f" {self.real}"
        return f"{self.policy}{share}"


@dataclass(frozen=True)
class Round:
    """One generation: what the model before it wrote, the mix made of it, and the model that learned from the mix."""

    generation: int
    written: Documents
    mix: Documents
    model: Trigram
    real_share: float
    """Real tokens of the mix over all its tokens."""


def generations(
    real: Documents, first: Trigram, arm: Arm, count: int, types: int, random: np.random.Generator
) -> Iterator[Round]:
    """Rounds 1 to ``count`` of an arm; ``first`` is the model of ``real``. Real text is drawn afresh every round."""
    budget = size(real)
    model, written = first, []
    for generation in range(1, count + 1):
        written.append(model.sample(budget, random, mode_seeking=arm.mode_seeking))
        mix, share = _mixed(real, written, arm, budget, random)
        model = Trigram(mix, types)
        yield Round(generation, written[-1], mix, model, share)


def _mixed(
    real: Documents, written: Sequence[Documents], arm: Arm, budget: int, random: np.random.Generator
) -> tuple[Documents, float]:
    synthetic = [document for generation in written for document in generation]
    if arm.policy == "accumulate":
        return real + synthetic, 1 / (len(written) + 1)
    share = arm.real
    if arm.policy == "subsample":
        share = max(share, 1 / (len(written) + 1))
    else:
        synthetic = written[-1]
    kept = draw(real, round(share * budget), random)
    return kept + draw(synthetic, budget - size(kept), random), size(kept) / budget
