"""Verdicts of a labelled study's gates, as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from palimpsest.config import Labelled
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.guard.verdict import Verdict, bounded, not_judged
from palimpsest.guard.verifier import judge_verifier
from palimpsest.labelled.coverage import Cell

HOW = {
    "people": "people looked at them",
    "planted": "the planted faults are known",
    "classifier": "a second classifier judged, which makes its own mistakes on real items too",
}


def judge(study: Labelled, cells: Sequence[Cell], seeds: Sequence[Mapping]) -> list[Verdict]:
    """All gates on what the seeds measured (`palimpsest.labelled.stages.measure`)."""
    return [
        _gain(study, seeds),
        _head(study, seeds),
        *_verifier(study, seeds),
        _caps(study, cells, seeds),
        _separation(seeds),
        *_seeds(study, cells),
    ]


def values(seeds: Sequence[Mapping], arm: str, figure: str) -> np.ndarray:
    """A figure of an arm by seed; empty where a seed does not have it."""
    found = [seed["arms"].get(arm, {}).get(figure) for seed in seeds]
    return np.array([] if any(value is None for value in found) else found, float)


def _filled(seeds: Sequence[Mapping]) -> bool:
    return all(seed["arms"]["verified"]["added"] for seed in seeds)


def _gain(study: Labelled, seeds: Sequence[Mapping]) -> Verdict:
    if not _filled(seeds):
        why = "whether generated items beat oversampling cannot be judged: in a seed or more none was there to be added"
        return not_judged("L1", "gain", f"{why}; see the coverage plan and the verifier")
    if len(seeds) < study.gates.least_seeds:
        why = f"whether generated items beat oversampling cannot be judged by {len(seeds)} seeds; "
        return not_judged("L1", "gain", f"{why}{study.gates.least_seeds} are asked")
    base, repaired = (values(seeds, arm, "balanced_accuracy") for arm in ("oversampled", "verified"))
    sd = float(base.std(ddof=1))
    if sd < 1e-12:
        why = "whether generated items beat oversampling cannot be judged: oversampling came out alike in all seeds"
        return not_judged("L1", "gain", f"{why}; give more test items")
    gain, least = 100 * float((repaired - base).mean()), 100 * study.gates.gain_sd * sd
    said = (
        f"verified items {_moved(gain)} balanced accuracy by {abs(gain):.1f} points against oversampling alone, "
        f"{100 * base.mean():.1f}% to {100 * repaired.mean():.1f}%; at least {least:.1f} points more are asked, "
        f"{study.gates.gain_sd:g} deviation{'s' * (study.gates.gain_sd != 1)} between {len(seeds)} seeds"
    )
    details = {"oversampled": base.tolist(), "verified": repaired.tolist(), "sd": sd}
    return bounded("L1", "gain", gain, said, at_least=least, details=details)


def _head(study: Labelled, seeds: Sequence[Mapping]) -> Verdict:
    found = {arm: values(seeds, arm, "head_recall") for arm in ("nothing", "oversampled", "verified", "real")}
    most = study.gates.head_loss_points
    if not len(found["nothing"]):
        why = "what the other cells lose cannot be judged: every cell is short of items, there is no head"
        return not_judged("L2", "head_loss", why, limit=most)
    lost = {arm: 100 * float((found["nothing"] - v).mean()) for arm, v in found.items() if len(v) and arm != "nothing"}
    beside = f"oversampling alone: {lost['oversampled']:.1f}"
    if "real" in lost:
        beside += f", as much real data: {lost['real']:.1f}"
    said = (
        f"cells that were not short lose {lost['verified']:.1f} points of recall to verified items ({beside}); at most "
        f"{most:g} may be lost"
    )
    return bounded("L2", "head_loss", lost["verified"], said, at_most=most, details={"points": lost})


def _verifier(study: Labelled, seeds: Sequence[Mapping]) -> list[Verdict]:
    gains = values(seeds, "verified", "balanced_accuracy") - values(seeds, "unverified", "balanced_accuracy")
    audits = [seed["audit"] for seed in seeds]
    audited, good = (sum(audit[key] for audit in audits) for key in ("audited", "good"))
    limits = DEFAULTS.override(
        {"verifier_precision_min": study.gates.precision, "verifier_audited_min": study.verification.audit}
    )
    subject = "the verifier"
    found = judge_verifier(gains.tolist() if _filled(seeds) else [], good, audited, limits, subject)
    by = audits[0]["by"]
    if by is None:
        why = (
            "how many of the accepted items are good cannot be judged: nothing was accepted, or no real item was held "
            "back to judge by; audit a sample of generated.parquet and name it as verification.audit_file"
        )
        limit = study.gates.precision
        return [found[0], not_judged("G11", "precision", why, subject=subject, limit=limit)]
    details = {"by": by, "audited": audited, "good": good}
    return [found[0], replace(found[1], sentence=f"{found[1].sentence} ({HOW[by]})", details=details)]


def _caps(study: Labelled, cells: Sequence[Cell], seeds: Sequence[Mapping]) -> Verdict:
    most = study.coverage.max_ratio
    used = {
        cell.cell: [seed["verifier"]["cells"].get(cell.cell, {}).get("used", 0) for seed in seeds] for cell in cells
    }
    ratios = {cell.cell: max(used[cell.cell]) / cell.real for cell in cells if cell.real}
    if not ratios:
        return not_judged("L4", "cap", "whether a cell is above its cap cannot be judged: no cell has a real item")
    worst = max(ratios, key=ratios.__getitem__)
    said = f"cell {worst} has {ratios[worst]:.3g} generated items per real one, no cell has more"
    said = f"{said if ratios[worst] else 'no cell has a generated item'}; at most {most:g} are allowed"
    return bounded("L4", "cap", ratios[worst], said, at_most=most, subject=worst if ratios[worst] else "")


def _separation(seeds: Sequence[Mapping]) -> Verdict:
    near, accepted, away = (
        sum(seed["separation"][key] for seed in seeds) for key in ("still_near", "accepted", "turned_away")
    )
    if not accepted:
        return not_judged("L5", "separation", "whether items stand near test items cannot be judged: none was accepted")
    said = (
        f"{near:,} of {accepted:,} accepted items nearly equal a validation or test item or share 13 words with one "
        f"({away:,} draft{'s were' if away != 1 else ' was'} turned away for it); none may"
    )
    return bounded("L5", "separation", near, said, at_most=0)


def _seeds(study: Labelled, cells: Sequence[Cell]) -> list[Verdict]:
    least = study.coverage.min_seeds
    return [
        bounded(
            "L6",
            "real_seeds",
            cell.real,
            f"cell {cell.cell} has {cell.real} real items and lacks {cell.deficit}; at least {least} are asked to "
            "generate from: collect, nothing was generated",
            at_least=least,
            severity="warning",
            subject=cell.cell,
        )
        for cell in cells
        if cell.decision == "collect"
    ]


def _moved(points: float) -> str:
    return "raise" if points >= 0 else "lower"
