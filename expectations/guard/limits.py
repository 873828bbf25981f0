"""The limits a study is judged by: the defaults, over them a calibration of its corpus, over that its own file."""

from __future__ import annotations

import logging

from palimpsest.config import Study
from palimpsest.guard import calibration
from palimpsest.lake import Lake

log = logging.getLogger(__name__)


def calibrated(study: Study, lake: Lake) -> Study:
    """The study with the limits of the first of its corpora that was calibrated, where its file sets no others."""
    own, known = study.guard.thresholds, {corpus: calibration.read(corpus, lake) for corpus in study.corpora}
    if lacking := [corpus for corpus, found in known.items() if found is None]:
        log.info(
            "limits of G7 to G9 were measured on another corpus than %s; its own: %s %s",
            ", ".join(lacking),
            "python -m palimpsest guard calibrate",
            lacking[0],
        )
    for corpus, found in known.items():
        if found is None:
            continue
        limits = {**found.limits, **own.model_dump(include=own.model_fields_set)}
        others = [name for name, other in known.items() if other and name != corpus]
        log.info(
            "limits of %s: %s%s",
            f"guard/{corpus}/calibration",
            ", ".join(sorted(found.limits)) or "none but defaults",
            f"; not those of {', '.join(others)}, of which a study takes the first" if others else "",
        )
        guard = study.guard.model_copy(update={"thresholds": type(own)().override(limits)})
        return study.model_copy(update={"guard": guard})
    return study
