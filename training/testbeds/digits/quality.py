"""How well each feature tells good examples from bad ones, alone and together."""

from __future__ import annotations

import numpy as np

from training.testbeds.digits import features
from training.testbeds.digits.data import Digits
from training.testbeds.digits.features import Columns

FOLDS = 5
ROUNDS = 60
LOW = ("loss", "ema_loss", "gradient", "error", "dist_median")
"""Of which little is good."""
POSITION, DYNAMICS, TOLD = "position, together", "dynamics, together", "dynamics told to MTS, together"


def measure(data: Digits, place: Columns, course: Columns, seed: int) -> list[dict[str, object]]:
    """A row per feature: AUROC of good against bad generated examples; together: boosted trees, five folds.

    Dynamics go together twice: every column of ``course``, and what of them the network is told (`features.TOLD`).
    """
    generated, found = ~data.real, {}
    for name, values in (place | course | {"margin": features.margin(data)}).items():
        sign = -1 if name.startswith(LOW) else 1
        found[name] = auroc(data, sign * values)
    told = {name: course[name] for name in features.TOLD}
    for name, columns in ((POSITION, place), (DYNAMICS, course), (TOLD, told)):
        found[name] = _together(np.stack(list(columns.values()), 1)[generated], data.good)
    return [{"seed": seed, "feature": name, "auroc": float(own)} for name, own in found.items()]


def auroc(data: Digits, scores: np.ndarray) -> float:
    """Of scores (n,) of the whole pool, by which good generated examples are told from bad ones."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(data.good, scores[~data.real]))


def _together(inputs: np.ndarray, good: np.ndarray) -> float:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)  # in their order, a fold would be all of one sort
    model = HistGradientBoostingClassifier(max_iter=ROUNDS, random_state=0)
    return roc_auc_score(good, cross_val_predict(model, inputs, good, cv=folds, method="predict_proba")[:, 1])
