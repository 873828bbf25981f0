"""Models that learn from models: generations of a trigram under replace, accumulate and accumulate-subsample.

Tier 0 of the collapse experiments (Shumailov et al. 2024; Gerstgrasser et al. 2024, 2404.01413; Kazdan et al. 2024,
2410.16713). Generation 0 learns from real text R; generation g learns from scratch from the mix that its policy makes
of R and of what models 0 to g-1 wrote, each |R| tokens. Every arm has |R| tokens to learn from, accumulate grows.
In the continual form R is another text in every generation: new real text, and some of the earlier (`portions`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.config.loop import Policy, least_real
from palimpsest.guard.temperature import Tempered
from palimpsest.guard.tokens import draw, size
from palimpsest.guard.trigram import Trigram

Documents = list[np.ndarray]
LONGEST = 1_024
"""Tokens. Models that have seen no end for generations would go on and on, in ever fewer documents."""


@dataclass(frozen=True)
class Arm:
    policy: Policy
    real: float = 0.0
    """Replace: the share of real tokens. Subsample: their least share (a plain draw from the pool has 1/(g+1))."""
    mode_seeking: bool = False
    temperature: float = 1.0
    replay: float | None = None
    """The continual form, and which share of a generation's real text earlier ones had too."""

    @property
    def name(self) -> str:
        share = "" if self.policy == "accumulate" or (self.policy == "subsample" and not self.real) else f" {self.real}"
        return f"{'' if self.replay is None else 'continual '}{self.policy}{share}"

    @property
    def decoding(self) -> str:
        if self.mode_seeking:
            return "mode-seeking"
        return "pure" if self.temperature == 1 else f"T = {self.temperature:g}"


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
    real: Documents | Sequence[Documents], first: Trigram, arm: Arm, count: int, types: int, random: np.random.Generator
) -> Iterator[Round]:
    """Rounds 1 to ``count`` of an arm; ``first`` is the model of ``real``. Real text is drawn afresh every round.

    In the continual form ``real`` is a text per round, that of round 0 first.
    """
    model, written = first, []
    for generation in range(1, count + 1):
        own = real if arm.replay is None else real[generation]
        budget = size(own)
        follow = None if arm.temperature == 1 else Tempered(model, arm.temperature).next
        written.append(model.sample(budget, random, mode_seeking=arm.mode_seeking, follow=follow, longest=LONGEST))
        mix, share = _mixed(own, written, arm, budget, random)
        model = Trigram(mix, types)
        yield Round(generation, written[-1], mix, model, share)


def portions(real: Documents, rounds: int, replay: float, random: np.random.Generator) -> list[Documents]:
    """The real text of rounds 0 to ``rounds`` of a continual loop: a part of ``real`` that no other round has as its
    own, and of earlier parts so much that it is a share ``replay`` of the round's real text (all, if that is less).
    """
    parts = [[real[place] for place in own] for own in np.array_split(random.permutation(len(real)), rounds + 1)]
    found = [parts[0]]
    for number in range(1, rounds + 1):
        earlier = [document for part in parts[:number] for document in part]
        again = math.ceil(size(parts[number]) * replay / (1 - replay))
        found.append(parts[number] + draw(earlier, again, random))
    return found


def _mixed(
    real: Documents, written: Sequence[Documents], arm: Arm, budget: int, random: np.random.Generator
) -> tuple[Documents, float]:
    synthetic = [document for generation in written for document in generation]
    if arm.policy == "accumulate":
        return real + synthetic, budget / (budget + size(synthetic))
    pool = written[-1] if arm.policy == "replace" else synthetic
    kept = draw(real, math.ceil(least_real(arm.policy, arm.real, len(written)) * budget), random)
    return kept + draw(pool, budget - size(kept), random), size(kept) / budget
