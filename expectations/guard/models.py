"""The early signs of trained models (`training.signs`), as rows of the guard's history.

A mix stands where texts have their strategy, and real text's own figure is that of the model of real text alone.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from palimpsest.config import Study
from palimpsest.lake import Lake, NotPublished, Published

GENERATOR = "trained here"
KINDS = {GENERATOR: "mix", "mix": "mix", "layout": "layout"}
"""What a row's ``strategy`` is the name of, by its generator, where that wrote no text."""
FIGURES = {
    "ece": ("calibration", None, "ece", "error"),
    "facts_real": ("facts", "real", "share", "error"),
    "facts_held_out": ("facts", "held_out", "share", "error"),
}
"""By metric: where the extra has its value and standard error."""


@dataclass(frozen=True)
class Trained:
    """The signs of all models trained on one version of a study's data."""

    data_until: str
    version: str
    signs: Sequence[Published]


def trained(study: Study, lake: Lake, gates: Sequence[Published]) -> list[Trained]:
    """One per version of the study's data that the gates let through and that models were trained on, oldest first.

    Of a run that was read more than once on the same data the newest counts.
    """
    until = {
        parent["digest"]: gate.extra["data_until"]
        for gate in gates
        for parent in gate.manifest["parents"]
        if parent["dataset"].endswith("/mixes")
    }
    order = {digest: number for number, digest in enumerate(until)}
    found: dict[str, dict[str, Published]] = defaultdict(dict)
    for newest in lake.children(f"studies/{study.name}/signs"):
        for sign in lake.versions(newest.dataset):
            mixes = _mixes(lake, sign)
            if mixes in until:
                found[mixes][sign.dataset] = sign
    return [Trained(until[mixes], mixes[:16], list(found[mixes].values())) for mixes in sorted(found, key=order.get)]


def rows(study: Study, of: Trained, number: int) -> list[dict[str, object]]:
    """Means over the seeds of each mix; ``number`` orders the versions."""
    by_mix = defaultdict(list)
    for sign in of.signs:
        by_mix[sign.extra["recipe"]].append(sign.extra)
    made = []
    for metric in FIGURES:
        known = {mix: _mean(metric, own) for mix, own in by_mix.items()}
        usual, error = known.get(study.reference, (None, None))
        made += [
            {
                "strategy": mix,
                "generator": GENERATOR,
                "metric": metric,
                "value": value,
                "real_mean": usual,
                "real_sd": error if usual is not None else own_error,
                "data_until": dt.date.fromisoformat(of.data_until),
                "version": of.version,
                "version_number": number,
            }
            for mix, (value, own_error) in known.items()
            if value is not None and mix in study.mixes
        ]
    return made


def _mean(metric: str, extras: Sequence[dict]) -> tuple[float | None, float | None]:
    """Mean over seeds, and the mean standard error: all seeds are asked the same, so theirs do not average out."""
    part, source, value, error = FIGURES[metric]
    told = [extra[part] if source is None else extra[part][source] for extra in extras]
    values, errors = ([own[key] for own in told if own.get(key) is not None] for key in (value, error))
    if len(values) < len(told):
        return None, None
    usable = [own for own in errors if own > 0 and math.isfinite(own)]
    return fmean(values), fmean(usable) if usable else None


def _mixes(lake: Lake, sign: Published) -> str | None:
    """The digest of the mixes that the model was trained on; None where that is no longer in the lake."""
    uri = next(parent["uri"] for parent in sign.manifest["parents"] if parent["dataset"].endswith("/tokens"))
    try:
        parents = lake.open(uri).manifest["parents"]
    except NotPublished:
        return None
    return next((parent["digest"] for parent in parents if parent["dataset"].endswith("/mixes")), None)
