"""Meta-rater: the mixture of scores whose choice a small model learns most from (Zhuang et al. 2025, 2504.14194).

RegMix (Liu et al. 2024, 2407.01492) over scores instead of domains: small proxies are trained on what as many mixtures
of the scores take (`training.selection.proxies`), a regression learns their loss from the weights, and the average of
the weights that it thinks best scores every text. The papers regress by LightGBM from hundreds of proxies; some dozens
fit a quadratic, with the penalty that predicts left-out proxies best. Scores are mixed as ranks within an origin, so
that even weights are `rank`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from palimpsest.config import MetaRater
from palimpsest.lake import Published
from training.selection import proxies
from training.selection.found import Scores, by_rank, ranks

CANDIDATES = 20_000
BEST = 100
"""Of the candidates, those whose weights are averaged."""
PENALTIES = np.logspace(-4, 3, 15)


def score(asked: MetaRater, scores: Mapping[str, Scores], origin: np.ndarray, made: Sequence[Published]) -> Scores:
    """Score: the weighted mean of ranks. Weight: by rank, mean 1.

    ``made``: the raters and the proxies (`training.selection.proxies.every`), whose cost is among this one's. Features:
    the ranks. Figures: the weights, what the regression expects of them, what the proxies came to, and how the
    regression ranks proxies that it has not learned from (1: as they are; near 0: they differ by noise).
    """
    raters, *trained = made
    told = [proxies.outcome(one) for one in trained]
    weights = np.array([[own[name] for name in asked.scores] for own, _ in told])
    losses = np.array([loss for _, loss in told])
    best, figures = search(weights, losses, asked.seed)
    own = np.column_stack([ranks(scores[name].score, origin) for name in asked.scores])
    found = own @ best
    figures = {f"weight of {name}": float(value) for name, value in zip(asked.scores, best, strict=True)} | figures
    figures |= {
        "loss of even weights": float(losses[len(asked.scores)]),
        "passes over what a proxy keeps": float(np.mean([one.extra["passes"] for one in trained])),
    }
    features = {f"rank_{name}": own[:, number] for number, name in enumerate(asked.scores)}
    costs = [*raters.extra["cost"].values(), *(one.extra for one in trained)]
    paid = {key: sum(cost[key] for cost in costs) for key in ("seconds", "cpu_seconds", "flops")}
    return Scores(found, by_rank(found, origin), features, figures, flops=paid.pop("flops"), paid=paid)


def search(weights: np.ndarray, losses: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Of (proxies, scores) weights and their losses: the weights to take, and what the regression says of itself."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    model = make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler(), RidgeCV(alphas=PENALTIES))
    left_out = cross_val_predict(model, weights, losses, cv=LeaveOneOut())
    candidates = proxies.even(weights.shape[1], CANDIDATES, [seed, 1])
    expected = model.fit(weights, losses).predict(candidates)
    best = candidates[np.argsort(expected, kind="stable")[:BEST]].mean(axis=0)
    told = {
        "expected loss": float(model.predict(best[None])[0]),
        "least loss of a proxy": float(losses.min()),
        "mean loss of the proxies": float(losses.mean()),
        "spread of their losses": float(losses.std()),
        "rank correlation of expected and left-out loss": float(spearmanr(left_out, losses).statistic),
    }
    return best, told
