"""What gates G7 to G10 make of what was measured: verdicts in sentences, never a bare number, never NaN.

Every function takes the measure, the limits and the subject of its sentences, such as ``synthetic rephrases of
domain wikinews`` (a plural).
"""

from __future__ import annotations

from palimpsest.guard.diversity import Null
from palimpsest.guard.duplicates import RUN, Duplicates, Quotes
from palimpsest.guard.measure import Measured
from palimpsest.guard.probe import Probe
from palimpsest.guard.tail import RARE, Source, Tail, sampled, subsampled
from palimpsest.guard.thresholds import Thresholds
from palimpsest.guard.verdict import Severity, Verdict, bounded, not_judged, percent

LEAST_RARE = 100
"""Rare words of a source below which chance moves the recall by as much as the limits allow."""
LEAST_DOCUMENTS = 20
"""Synthetic documents below which one duplicate is more than the limits allow."""
DIVERSITY: dict[str, tuple[str, Severity]] = {
    "entropy": ("have an entropy of {value:.2f} bits per word", "critical"),
    "compression": ("compress {value:.2f} times", "warning"),
    "distinct_3": ("have {value:.3f} distinct trigrams per trigram", "warning"),
}


def judge(found: Measured, limits: Thresholds, subject: str, depth: int = 1) -> list[Verdict]:
    """G8, G9 and G10 of one pass."""
    return [
        *judge_tail(found.tail, found.source, limits, subject, depth),
        *judge_diversity(found, limits, subject),
        *judge_duplicates(found.duplicates, limits, subject),
        judge_quotes(found.quotes, limits, subject),
    ]


def judge_probe(probe: Probe, limits: Thresholds, subject: str, *, neural: bool = False) -> list[Verdict]:
    """G7: overall, and the worst domain where there are several."""
    most = limits.probe_lm_max if neural else limits.probe_ngram_max
    name, what = ("probe_lm", "a neural model") if neural else ("probe", "a model")
    details = {
        "real_tokens": probe.real_tokens,
        "synthetic_tokens": probe.synthetic_tokens,
        "test_tokens": probe.test_tokens,
        "perplexity_alone": probe.alone,
        "ratios": list(probe.ratios),
        "domains": dict(probe.domains),
    }
    text = "{what} that also learns {subject} {change} on held-out real text{where}; at most {most} worse is asked"

    def verdict(measure: str, ratio: float, where: str, most: float, **names: str) -> Verdict:
        said = text.format(what=what, subject=subject, change=worse(ratio), where=where, most=percent(most - 1))
        return bounded("G7", measure, ratio, said, at_most=most, subject=subject, details=details | names)

    found = [verdict(name, probe.ratio, "", most)]
    if len(probe.domains) > 1:
        worst = max(probe.domains, key=lambda domain: (probe.domains[domain], domain))
        where = f" of domain {worst}, its worst of {len(probe.domains)}"
        found.append(verdict(f"{name}_domain", probe.domains[worst], where, limits.probe_domain_max, domain=worst))
    return found


def judge_tail(tail: Tail, source: Source, limits: Thresholds, subject: str, depth: int = 1) -> list[Verdict]:
    """G8: rare words kept. A full-size set is held to what pure sampling leaves, a smaller one to real text's own."""
    gate, measure = "G8", "tail_full" if tail.is_full else "tail_sample"
    details = {"tokens": tail.tokens, "rare": tail.rare, "kept": tail.kept, "size": tail.ratio, "mass": tail.mass}
    if not tail.tokens:
        return [_empty(gate, measure, subject)]
    if tail.rare < LEAST_RARE:
        why = (
            f"the source of {subject} has {tail.rare} words that it uses at most {RARE} times; {LEAST_RARE} are needed "
            "to judge how many are kept: judge it together with others"
        )
        return [not_judged(gate, measure, why, subject=subject, details=details)]
    usual = sampled(source, depth, tail.ratio) if tail.is_full else subsampled(source, tail.ratio)
    if usual * tail.rare < LEAST_RARE / 4:
        why = (
            f"{subject} are {tail.tokens:,} tokens, too few to judge the rare words of their source's {source.tokens:,}"
        )
        return [not_judged(gate, measure, why, subject=subject, details=details)]
    share, details = tail.recall / usual, details | {"recall": tail.recall, "usual": usual, "depth": depth}
    whose = "sampling alone" if tail.is_full else "real text of the same size"
    least = limits.tail_full_min if tail.is_full else limits.tail_sample_fail
    severity: Severity = "critical"
    if not tail.is_full and limits.tail_sample_fail <= share:
        least, severity = limits.tail_sample_warn, "warning"
    said = (
        f"{subject} keep {percent(share)} of the rare words that {whose} would keep; at least {percent(least)} is asked"
    )
    return [bounded(gate, measure, share, said, at_least=least, severity=severity, subject=subject, details=details)]


def judge_diversity(found: Measured, limits: Thresholds, subject: str) -> list[Verdict]:
    """G9: entropy fails, compression and distinct trigrams warn, each on both sides of real text."""
    most = {
        "entropy": limits.entropy_z_max,
        "compression": limits.compression_z_max,
        "distinct_3": limits.distinct_z_max,
    }
    verdicts = []
    for name, (text, severity) in DIVERSITY.items():
        if found.unjudged:
            why = f"the {name} of {subject} cannot be judged: {found.unjudged}"
            verdicts.append(not_judged("G9", name, why, severity=severity, subject=subject, limit=most[name]))
            continue
        value, null = found.blocks.means[name], found.nulls[name]
        said = f"{subject} {text.format(value=value)}"
        verdicts.append(_two_sided("G9", name, value, null, most[name], said, severity, subject, found.blocks.tokens))
    return verdicts


def judge_duplicates(found: Duplicates, limits: Thresholds, subject: str) -> list[Verdict]:
    """G10: near duplicates among the synthetic documents, and of real ones."""
    rules = (
        ("near_duplicates", found.repeated, limits.near_duplicate_max, "an earlier one"),
        ("near_duplicates_of_real", found.copied, limits.near_duplicate_real_max, "a real document"),
    )
    verdicts = []
    for measure, count, most, whom in rules:
        if found.documents < LEAST_DOCUMENTS:
            why = (
                f"{subject} are {found.documents} documents with words in them; {LEAST_DOCUMENTS} are needed to judge "
                "how many repeat each other"
            )
            verdicts.append(not_judged("G10", measure, why, subject=subject, limit=most))
            continue
        if measure == "near_duplicates_of_real" and not found.known:
            why = f"whether {subject} repeat real documents cannot be judged: there is none to compare them with"
            verdicts.append(not_judged("G10", measure, why, subject=subject, limit=most))
            continue
        share = count / found.documents
        said = f"{percent(share)} of {subject} nearly equal {whom}; at most {percent(most)} is allowed"
        details = {"documents": found.documents, "duplicates": count, "real_documents": found.known}
        verdicts.append(bounded("G10", measure, share, said, at_most=most, subject=subject, details=details))
    return verdicts


def judge_quotes(found: Quotes, limits: Thresholds, subject: str) -> Verdict:
    """G10: runs of 13 words shared with held-out text."""
    if not found.held_out or not found.documents:
        lacking = "no held-out text was given" if not found.held_out else "there is no document"
        why = f"whether {subject} quote held-out text cannot be judged: {lacking}"
        return not_judged("G10", "held_out_runs", why, subject=subject, limit=limits.held_out_runs_max)
    first = f" (the first: '{found.example}')" if found.example else ""
    said = (
        f"{found.quoting:,} of {found.documents:,} {subject} share {RUN} words in a row with held-out text{first}; "
        f"at most {limits.held_out_runs_max} may"
    )
    details = {"documents": found.documents, "held_out": found.held_out, "example": found.example}
    most = limits.held_out_runs_max
    return bounded("G10", "held_out_runs", found.quoting, said, at_most=most, subject=subject, details=details)


def _two_sided(
    gate: str,
    name: str,
    value: float,
    null: Null,
    most: float,
    said: str,
    severity: Severity,
    subject: str,
    tokens: int,
) -> Verdict:
    z = null.z(value)
    details = {"value": value, "real_mean": null.mean, "real_sd": null.sd, "tokens": tokens, "z": z}
    if z is None:
        why = f"{said}, but their real texts do not vary: there is nothing to judge by"
        return not_judged(gate, name, why, severity=severity, subject=subject, limit=most, details=details)
    side = "above" if z > 0 else "below"
    said += f", {abs(z):.1f} deviations {side} real text ({null.mean:.4g}); at most {most:g} are allowed"
    return bounded(gate, name, abs(z), said, at_most=most, severity=severity, subject=subject, details=details)


def worse(ratio: float) -> str:
    """What a model of that ratio of perplexities is: 'is 8% worse'."""
    return f"is {percent(ratio - 1)} worse" if ratio >= 1 else f"is {percent(1 - ratio)} better"


def _empty(gate: str, measure: str, subject: str) -> Verdict:
    return not_judged(gate, measure, f"{subject} are empty: there is not one word to judge", subject=subject)
