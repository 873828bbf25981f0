"""The limits a study is judged by: the defaults, over them a calibration of its corpus, over that its own file."""

from __future__ import annotations

import logging

from palimpsest.config import Study
from palimpsest.guard import calibration
from palimpsest.lake import Lake

log = logging.getLogger(__name__)


def calibrated(study: Study, lake: Lake) -> Study:
    """The study with the limits of the first of its corpora that was calibrated, where its file sets no others."""
    own = study.guard.thresholds
    for corpus in study.corpora:
        found = calibration.read(corpus, lake)
        if found is None:
            continue
        limits = {**found.limits, **own.model_dump(include=own.model_fields_set)}
        log.info(
            "limits of %s: %s", f"guard/{corpus}/calibration", ", ".join(sorted(found.limits)) or "none but defaults"
        )
        guard = study.guard.model_copy(update={"thresholds": type(own)().override(limits)})
        return study.model_copy(update={"guard": guard})
    return study
