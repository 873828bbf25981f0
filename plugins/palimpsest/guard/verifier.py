"""What G11 makes of a verifier: whether its choice teaches more than a random one, and whether people agree with it.

Self-selection beats the generator, and another model as a judge may do no better than chance (Feng et al. 2024,
2406.07515): a verifier has to be shown to select, on this generator's text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palimpsest.guard.thresholds import Thresholds
from palimpsest.guard.verdict import Verdict, bounded, not_judged, percent


def judge_verifier(
    gains: Sequence[float], accepted_good: int, audited: int, limits: Thresholds, subject: str
) -> list[Verdict]:
    """G11: paired gains of the verifier's choice over a random one of the same size, and an audit of what it accepted.

    ``gains`` are per seed, positive where the verifier's choice was better. One-sided paired t-test.
    """
    return [judge_gain(gains, limits, subject), judge_audit(accepted_good, audited, limits, subject)]


def judge_gain(gains: Sequence[float], limits: Thresholds, subject: str, *, neural: bool = False) -> Verdict:
    """G11: whether the verifier's choice is better than a random one, by more than the seeds differ."""
    measure, most, values = "gain_lm" if neural else "gain", limits.verifier_p_max, np.asarray(gains, float)
    if len(values) < 3 or not np.isfinite(values).all() or values.std() == 0:
        why = f"whether {subject} beats a random choice cannot be judged: give 3 or more paired gains that differ"
        return not_judged("G11", measure, why, subject=subject, limit=most)
    from scipy import stats

    p = float(stats.ttest_1samp(values, limits.verifier_gain_min, alternative="greater").pvalue)
    whose = "a neural model" if neural else "a model"
    said = (
        f"{whose} learns {values.mean():.2g} nats per token more from the choices of {subject} than from random ones "
    )
    said += f"(p = {p:.2g}); p of at most {most:g} is asked"
    details = {"gains": values.tolist(), "mean": float(values.mean())}
    return bounded("G11", measure, p, said, at_most=most, subject=subject, details=details)


def judge_audit(good: int, audited: int, limits: Thresholds, subject: str, command: str = "") -> Verdict:
    """G11: the share of accepted texts that a person found good; ``command`` is what makes an audit."""
    least = limits.verifier_precision_min
    if audited < limits.verifier_audited_min:
        why = f"{audited} accepted texts of {subject} were audited; {limits.verifier_audited_min} are needed"
        why += f": {command}" if command else ""
        return not_judged("G11", "precision", why, subject=subject, limit=least)
    said = f"{percent(good / audited)} of {audited:,} audited texts that {subject} accepted are good; at least "
    said += f"{percent(least)} is asked"
    details = {"good": good, "audited": audited}
    return bounded("G11", "precision", good / audited, said, at_least=least, subject=subject, details=details)
