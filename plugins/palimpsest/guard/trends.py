"""Verdicts on trends: distances that a dashboard shows, and that stop only what is declared to be like real text."""

from __future__ import annotations

from palimpsest.guard.distance import Distance
from palimpsest.guard.thresholds import Thresholds
from palimpsest.guard.verdict import Verdict, bounded, not_judged


def judge_classifier(found: Distance, limits: Thresholds, subject: str, *, in_distribution: bool) -> Verdict:
    """C2ST: the AUC over its null. Rephrases are supposed to be told apart; only text declared alike may fail."""
    excess = found.auc - found.auc_null.mean
    auc = min(1.0, max(0.0, 0.5 + excess))
    said = (
        f"a classifier tells {subject} from real text with an AUC of {found.auc:.2f}, halves of that from each other "
    )
    said += f"with {found.auc_null.mean:.2f}, so {auc:.2f} counts (0.5 is by chance); "
    said += f"text that is declared to be like it is held to {limits.classifier_auc_max:g}"
    details = {"texts": found.texts, "auc": found.auc, "null": found.auc_null.mean, "null_sd": found.auc_null.sd}
    severity = "critical" if in_distribution else "warning"
    if not in_distribution:
        return Verdict("C2ST", "passed", said, auc, limits.classifier_auc_max, severity, "auc", subject, details)
    most = limits.classifier_auc_max
    return bounded("C2ST", "auc", auc, said, at_most=most, severity=severity, subject=subject, details=details)


def judge_distance(found: Distance, limits: Thresholds, subject: str) -> Verdict:
    """MMD in multiples of real halves' own, a warning from 10 and an alarm from 30; neither stops anything."""
    ratio = found.mmd_ratio
    if ratio is None:
        why = f"the distance of {subject} cannot be judged: all their real texts are equal"
        return not_judged("MMD", "mmd_ratio", why, severity="warning", subject=subject, limit=limits.mmd_warn)
    alarm = ratio > limits.mmd_alarm
    most = limits.mmd_alarm if alarm else limits.mmd_warn
    said = f"{subject} lie {ratio:.3g} times as far from real text as its halves from each other; "
    said += f"{'an alarm is raised' if alarm else 'a warning is given'} above {most:g}"
    details = {"mmd": found.mmd, "null": found.mmd_null.mean, "vendi": found.vendi, "vendi_real": found.vendi_null.mean}
    details["alarm"] = alarm
    return bounded("MMD", "mmd_ratio", ratio, said, at_most=most, severity="warning", subject=subject, details=details)
