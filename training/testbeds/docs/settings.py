"""What learned scores train on the testbeds of texts: small models, a minute of one thread each."""

from __future__ import annotations

from palimpsest import tokenizer
from palimpsest.config import PVM, Model, Optimizer, Training
from palimpsest.lake import Published
from training.selection import target
from training.selection.pool import Pool

MODEL = Model(layers=1, width=64, mlp=192, heads=2)
TRAINING = Training(model=MODEL, precision="fp32")
"""One precision, so that the same figures come out wherever it runs; one thread."""
ALPHAS = (0.1, 1.0)
"""Of Pointwise Value Matching: what the pool counts beside the target. Results hang on it, so each is an arm."""
STEPS, CONTEXT, BATCH = 200, 128, 16
RATE = 3e-3


def read(pool: Pool, texts: Published) -> target.Read:
    """The pool as learned scores need it, all that is vouched for being the target."""
    return target.read(pool, tokenizer.load(texts.file("tokenizer.json")), every_real=True)


def pvm(seed: int) -> list[PVM]:
    """Of a seed, one for each of `ALPHAS`."""
    shared = {"model": MODEL, "steps": STEPS, "context": CONTEXT, "batch": BATCH, "optimizer": Optimizer(lr=RATE)}
    return [PVM(**shared, alpha=alpha, seed=seed) for alpha in ALPHAS]
