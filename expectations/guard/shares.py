"""G2 and G4: how much of what is trained on people wrote, in every domain, and that it is drawn apart.

No one ratio is right (Kang et al. 2025, 2510.01631; Du et al. 2025, 2510.05133; Garg et al. 2025, 2509.22341): the
limit depends on what the generated text was made from, and on what its generator was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from palimpsest.config import Study
from palimpsest.guard.verdict import Severity, Verdict, bounded, percent
from palimpsest.lake import Lake, NotPublished

SHARES = """
    select
        recipe,
        {domain} as domain,
        sum(trained_tokens) filter (where origin = 'real') as real,
        sum(trained_tokens) filter (
            where origin = 'synthetic' and grounded and not self_consuming and depth <= 1
        ) as grounded,
        sum(trained_tokens) filter (
            where origin = 'unknown' or (origin = 'synthetic' and not grounded and not self_consuming and depth <= 1)
        ) as free,
        sum(trained_tokens) filter (
            where origin = 'synthetic' and (self_consuming or coalesce(depth, 2) > 1)
        ) as looped,
        sum(trained_tokens) as tokens
    from mix_shares
    group by recipe, {domain}
    having sum(trained_tokens) > 0
    order by recipe, domain
"""
DRAWN_TOLERANCE = 0.01
"""A run's last block rounds its sequences: this much of the planned share, or one sequence."""


@dataclass(frozen=True)
class Shares:
    """What a recipe, or one domain of it, is trained on; shares of its tokens."""

    recipe: str
    domain: str
    real: float
    grounded: float
    free: float
    looped: float


@dataclass(frozen=True)
class Rule:
    """One bound of G2: which share, when it is asked, and in what words."""

    measure: str
    share: str
    asked_if: str | None
    least: bool
    limit: float
    said: str
    severity: Severity = "critical"
    waivable: bool = True


def shares(connection: duckdb.DuckDBPyConnection, *, by_domain: bool) -> list[Shares]:
    query = SHARES.format(domain="domain" if by_domain else "''")
    rows = connection.execute(query).fetchall()
    return [Shares(recipe, domain, *((x or 0.0) / total for x in own)) for recipe, domain, *own, total in rows]


def rules(study: Study, lake: Lake) -> list[Rule]:
    """The bounds of G2. More than a third rewritten text is a warning: a study compares it with real text alone."""
    limits = study.guard.thresholds
    swept = is_swept(study, lake)
    grounded = limits.synthetic_grounded_swept_max if swept else limits.synthetic_grounded_max
    why = f", with the sweep of study {study.guard.format_sweep}" if swept else ""
    return [
        Rule("real_floor", "real", None, True, limits.real_min, "was written by people", waivable=False),
        Rule("real_beside_own", "real", "looped", True, limits.real_self_consuming_min,
             "was written by people, and some by a model that learned from this platform's text or from models"),
        Rule("grounded_share", "grounded", "grounded", False, grounded,
             f"is rewritten from real documents by a generator from outside{why}", "warning"),
        Rule("free_share", "free", "free", False, limits.synthetic_free_max,
             "is made up by a generator from outside, or of unknown origin"),
    ]  # fmt: skip


def real_text(connection: duckdb.DuckDBPyConnection, study: Study, lake: Lake) -> Iterator[Verdict]:
    """G2: for each recipe its real and synthetic shares over all, and in the domain where they are worst."""
    whole, parts = shares(connection, by_domain=False), shares(connection, by_domain=True)
    for rule in rules(study, lake):
        for found in whole:
            if rule.asked_if and not getattr(found, rule.asked_if):
                continue
            yield _judged(rule, found)
            domains = [part for part in parts if part.recipe == found.recipe]
            asked = [part for part in domains if rule.asked_if is None or getattr(part, rule.asked_if)]
            if len(domains) > 1:
                pick = min if rule.least else max
                yield _judged(rule, pick(asked, key=lambda part: getattr(part, rule.share)))


def _judged(rule: Rule, found: Shares) -> Verdict:
    value = getattr(found, rule.share)
    where = f"in its worst domain, {found.domain}, {percent(value)}" if found.domain else percent(value)
    return bounded(
        "G2",
        rule.measure,
        value,
        f"mix {found.recipe}: {where} of what is trained on {rule.said}; "
        f"at {'least' if rule.least else 'most'} {percent(rule.limit)} is asked",
        **{"at_least" if rule.least else "at_most": rule.limit},
        severity=rule.severity,
        subject=f"{found.recipe} in {found.domain}" if found.domain else found.recipe,
        details={
            "recipe": found.recipe,
            "domain": found.domain or None,
            "waivable": rule.waivable,
            "real": found.real,
            "grounded": found.grounded,
            "free": found.free,
            "looped": found.looped,
        },
    )


def drawn_apart(connection: duckdb.DuckDBPyConnection, study: Study) -> Iterator[Verdict]:
    """G4: real and synthetic text are streams of their own, each dealt in its planned share."""
    query = """
        select
            recipe,
            count(*) filter (where layout = $real and stream_sequences > 0),
            max(abs(coalesce(realised_fraction, 0) - fraction)),
            max(sequences),
            sum(realised_fraction) filter (where layout = $real)
        from mixes group by recipe order by recipe
    """
    for recipe, streams, off, sequences, real in connection.execute(query, {"real": study.real_layout}).fetchall():
        limit = max(DRAWN_TOLERANCE, 1 / max(sequences, 1))
        if not streams:
            whole = _holds_all(study, recipe)
            said = f"mix {recipe} has no stream of real text to draw from" + (
                ": what it is trained on holds every real document" if whole else ""
            )
            said += "; real and synthetic text must be drawn apart, or all be there"
            about = {"recipe": recipe}
            yield bounded("G4", "real_stream", int(whole), said, at_least=1, subject=recipe, details=about)
            continue
        yield bounded(
            "G4",
            "drawn_apart",
            off,
            f"mix {recipe} draws real and synthetic text apart: {percent(real)} of its sequences are the real "
            f"stream's, {100 * off:.2g} points from the plan; at most {100 * limit:.2g} are asked",
            at_most=limit,
            subject=recipe,
            details={"recipe": recipe},
        )


def _holds_all(study: Study, recipe: str) -> bool:
    """Whether the recipe is meant to have no real stream, and another has all its real documents: none is drawn."""
    mix = study.mix_of(recipe)
    capped = mix.max_tokens is not None or mix.max_ratio is not None
    return mix.f == 1 and any(study.layouts[name].real != "none" for name in mix.streams) and not capped


def is_swept(study: Study, lake: Lake) -> bool:
    """Whether the study that compares formats and shares has its report."""
    if study.guard.format_sweep is None:
        return False
    try:
        lake.latest(f"studies/{study.guard.format_sweep}/report")
    except NotPublished:
        return False
    return True
