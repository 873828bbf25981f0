"""What a gate of the guard says of one thing it judged: a sentence, the figure behind it, and what follows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

Outcome = Literal["passed", "warned", "failed", "not_judged"]
Severity = Literal["critical", "warning"]
RANK: tuple[Outcome, ...] = ("passed", "not_judged", "warned", "failed")
"""From good to bad. What nobody could judge is worse than what passed: it may not be taken for it."""


@dataclass(frozen=True)
class Verdict:
    """One gate's word on one subject (a domain, a generator, a whole set) and one measure."""

    gate: str
    """``G1`` to ``G11``, or the name of a trend: ``C2ST``, ``MMD``."""
    outcome: Outcome
    sentence: str
    """What was found and what was asked; for ``not_judged``, why and what to do."""
    value: float | None
    """The figure that was judged; never NaN. None where there is none: then the outcome is ``not_judged``."""
    limit: float | None
    severity: Severity
    """What a breach of the limit amounts to: ``critical`` fails, ``warning`` warns."""
    measure: str = ""
    subject: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    """Further figures, JSON values only."""

    def __post_init__(self) -> None:
        for name in ("value", "limit"):
            figure = getattr(self, name)
            if figure is not None and not math.isfinite(figure):
                raise ValueError(f"verdict {self.gate} {self.measure}: {name} is {figure}; report it as not judged")
        if self.outcome != "not_judged" and self.value is None:
            raise ValueError(f"verdict {self.gate} {self.measure}: '{self.outcome}' without a value")

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def bounded(
    gate: str,
    measure: str,
    value: float,
    sentence: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    severity: Severity = "critical",
    subject: str = "",
    details: Mapping[str, object] | None = None,
) -> Verdict:
    """Passed if the value keeps its one limit (the limit itself is allowed), else failed or, as a warning, warned."""
    if (at_least is None) == (at_most is None):
        raise ValueError(f"verdict {gate} {measure}: give at_least or at_most, one of them")
    limit = at_most if at_least is None else at_least
    kept = value <= limit if at_least is None else value >= limit
    outcome: Outcome = "passed" if kept else "failed" if severity == "critical" else "warned"
    return Verdict(gate, outcome, sentence, value, limit, severity, measure, subject, details or {})


def not_judged(
    gate: str,
    measure: str,
    why: str,
    *,
    severity: Severity = "critical",
    subject: str = "",
    limit: float | None = None,
    details: Mapping[str, object] | None = None,
) -> Verdict:
    """The verdict on what cannot be measured; ``why`` is a sentence that names what is missing and the way out."""
    return Verdict(gate, "not_judged", why, None, limit, severity, measure, subject, details or {})


def worst(verdicts: Iterable[Verdict]) -> Outcome:
    """The worst outcome; ``not_judged`` of nothing."""
    found = [verdict.outcome for verdict in verdicts]
    return max(found, key=RANK.index) if found else "not_judged"


def percent(share: float) -> str:
    """A share as sentences have it: ``83%``, ``0.4%``, ``112%``."""
    figure = 100 * share
    return f"{figure:.0f}%" if abs(figure) >= 10 or figure == round(figure) else f"{figure:.2g}%"
