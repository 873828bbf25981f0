"""The early signs of a study's runs, as a row per mix: calibration error, and facts told apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from palimpsest.config import Study
from palimpsest.lake import Published

FARTHER = 2.0
"""Standard errors of a difference from the reference beyond which it is said to be one."""


def rows(study: Study, signs: Sequence[Published]) -> list[dict]:
    """Means over seeds; standard errors are those of documents and questions, of seeds where these differ by more.

    ``why`` holds what could not be judged. ``sentences`` say how the mix compares with the reference.
    """
    by_mix: dict[str, list[Mapping]] = defaultdict(list)
    for published in signs:
        by_mix[published.extra["recipe"]].append(published.extra)
    found = [_row(mix, by_mix[mix]) for mix in study.mixes if mix in by_mix]
    usual = next((row for row in found if row["mix"] == study.reference), None)
    return [row | {"sentences": _compared(row, usual)} for row in found]


def _row(mix: str, told: Sequence[Mapping]) -> dict:
    sure = [own["calibration"] for own in told]
    row = {"mix": mix, "seeds": len(told), "tokens": sure[0]["tokens"], "why": []}
    row["ece"], row["ece_error"] = _mean([own["ece"] for own in sure], [own["error"] for own in sure])
    for name in ("confidence", "accuracy"):
        row[name] = _mean([own[name] for own in sure], [])[0]
    if row["ece"] is None:
        row["why"].append(f"calibration of {mix} not judged: {sure[0]['why']}")
    for source in told[0]["facts"]:
        scores = [own["facts"][source] for own in told]
        value, error = _mean([score["share"] for score in scores], [score["error"] for score in scores])
        row |= {f"facts_{source}": value, f"facts_{source}_error": error}
        row[f"questions_{source}"] = scores[0]["questions"]
        if value is None:
            row["why"].append(f"facts of {source.replace('_', '-')} text, mix {mix}, not judged: {scores[0]['why']}")
    return row


def _mean(values: Sequence[float | None], errors: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean over seeds and its standard error; all seeds are asked the same, so that their errors do not average."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    own = [error for error in errors if error is not None]
    spread = 0.0
    if len(known) > 1:
        spread = math.sqrt(sum((value - fmean(known)) ** 2 for value in known) / (len(known) - 1) / len(known))
    return fmean(known), max([spread, *([fmean(own)] if own else [])]) or None


def _compared(row: Mapping, usual: Mapping | None) -> list[str]:
    """What is worse than of the model of real text alone, by more than chance."""
    if usual is None or usual is row:
        return []
    said = []
    for name, what, sign in (
        ("ece", "is worse calibrated than", 1),
        ("facts_real", "knows fewer facts of the real text than", -1),
        ("facts_held_out", "knows fewer facts of held-out text than", -1),
    ):
        own, other = row.get(name), usual.get(name)
        if own is None or other is None:
            continue
        error = math.hypot(row[f"{name}_error"] or 0.0, usual[f"{name}_error"] or 0.0)
        if sign * (own - other) > FARTHER * error > 0:
            said.append(
                f"{row['mix']} {what} {usual['mix']}: {own:.3f} against {other:.3f}, "
                f"{abs(own - other) / error:.1f} standard errors"
            )
    return said
