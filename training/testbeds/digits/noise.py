"""Signal and noise of hypergradients by batch size, with even weights and with peaked ones."""

from __future__ import annotations

from dataclasses import asdict

import torch

from training.meta.diagnosis import of_weights
from training.testbeds.digits import learner
from training.testbeds.digits.data import Digits
from training.testbeds.digits.learned import learn
from training.testbeds.digits.weighing import Recipe, Weighing

BATCHES = (16, 32, 64, 128, 256, 512, 1024)
LARGE = 2048
"""With few validation images, where the batch saturates."""
GRADIENTS = 100
"""Independent ones per batch size."""
HELD = 32
"""Validation images per gradient, where they are drawn anew for each."""
PEAKED = 400
"""Steps after which weights without a floor have peaked, at a batch of 1,024 for network and learner."""
EVEN_ALL, EVEN_FEW, PEAKED_ALL = "even, all of validation", f"even, {HELD} of validation", "peaked, all of validation"


def measure(data: Digits, known: torch.Tensor, seed: int) -> list[dict[str, object]]:
    """A row per state, validation batch and N: the figures of `Signal`, and the effective examples of a batch."""
    recipe = Recipe(1024, 1024, floor=0.0, patience=None)
    even = Weighing(data, known, recipe, seed)
    peaked, _ = learn(data, known, recipe, seed, steps=PEAKED, span=learner.STEPS)
    rows = []
    for state, own, held in ((EVEN_ALL, even, None), (EVEN_FEW, even, HELD), (PEAKED_ALL, peaked, None)):
        for meta in (*BATCHES, *([LARGE] if held else [])):
            rng = learner.generator(seed, 107, meta)
            signal = own.signal(rng, GRADIENTS, meta=meta, held=held)
            worth = [of_weights(own.weights(own.drawn(rng, meta))).effective for _ in range(10)]
            effective = sum(worth) / len(worth)
            rows.append({"seed": seed, "state": state, "meta": meta, "effective": effective, **asdict(signal)})
    return rows
