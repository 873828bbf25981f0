"""What a study's texts came to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from palimpsest.guard.verdict import Verdict


@dataclass
class Found:
    """What the texts of a study's strategies came to: verdicts, and figures for trends."""

    verdicts: list[Verdict] = field(default_factory=list)
    measures: list[dict[str, object]] = field(default_factory=list)
    detector: pd.DataFrame | None = None
    """P(generated) of each document of unknown origin, if there are any and something to tell them by."""

    def measured(self, strategy: str, model: str, metric: str, value: float | None, null: object = None) -> None:
        if value is not None and np.isfinite(value):
            mean, sd = (None, None) if null is None else (null.mean, null.sd)
            row = {"strategy": strategy, "generator": model, "metric": metric, "value": float(value)}
            self.measures.append(row | {"real_mean": mean, "real_sd": sd})


def about(verdict: Verdict, **names: object) -> Verdict:
    """The verdict with the names that a waiver may know it by."""
    return replace(verdict, details={**verdict.details, **names})


def as_warning(verdict: Verdict) -> Verdict:
    """The verdict, where its breach is to be said and to stop nothing."""
    outcome = "warned" if verdict.outcome == "failed" else verdict.outcome
    return replace(verdict, severity="warning", outcome=outcome)
