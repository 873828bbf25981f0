"""The collapse guard of a study: what a domain is, other limits than the defaults, and what a person has waived."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from palimpsest.config.base import Name, Strict
from palimpsest.config.training import ShortTraining
from palimpsest.guard.thresholds import Thresholds

Waivable = Literal["G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "C2ST", "MMD", "ALIGN"]
"""Without provenance (G1) nothing can be judged, so nothing can be waived."""


Severity = Annotated[
    Literal["critical", "warning", "off"],
    BeforeValidator(lambda said: "off" if said is False else said),  # YAML 1.1 reads a bare off as false
]


class Waiver(Strict):
    """A breach that a person answers for, until a day. It turns a failure into a warning that names them."""

    gate: Waivable
    subject: str | None = None
    """Only breaches of this recipe, domain, strategy or corpus (or what a verdict says it is about, word for word);
    default: whatever the gate finds."""
    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10)]
    by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=2)]
    until: dt.date
    """The last day it holds."""


class NeuralProbe(ShortTraining):
    """A small model trained on real text, and on real and generated text: what the latter costs on held-out text (G7).

    Beside the word trigram, which asks nothing. Every strategy takes ``seeds`` times three to five such trainings.
    They must see real and generated text once at least: steps x batch x context tokens.
    """

    seeds: int = Field(default=3, ge=3)
    """Below three nothing is known of how much they differ."""


class Guard(Strict):
    domain: Literal["site", "corpus", "all"] = "site"
    """What shares are judged by, beside all together: the documents' site, their corpus, or nothing else."""
    domain_min_share: float = Field(default=0.01, ge=0, le=1)
    """Domains with less of the real tokens are judged as one: a handful of pages has no share worth the name."""
    thresholds: Thresholds = Thresholds()
    """Limits that are otherwise than the defaults: {synthetic_grounded_max: 0.5}."""
    severity: dict[Waivable, Severity] = {}
    """Gates that stop where they would warn, warn where they would stop, or are not asked."""
    in_distribution: list[Name] | Literal["all"] = []
    """Strategies whose text is meant to be like the real text, as that of kind 'self' is: told apart from it by
    ``thresholds.classifier_auc_max`` or more it stops the study (C2ST). Rephrases are supposed to be told apart."""
    format_sweep: Name | None = None
    """A study whose report compares formats and shares of such text: more of it may then be rephrased (G2)."""
    tombstones: str | None = None
    """File of URLs, one per line, that had to go (law, personal data): their loss is no shrinking (G3)."""
    probe: NeuralProbe | None = None
    """Have a small neural model judge G7 and G11 as well, not the word trigram alone."""
    waivers: list[Waiver] = []
    experiment: bool = False
    """Collapse is what the study is about: every breach is said and none stops it (but missing provenance does). A
    model of such a mix passes for no generator elsewhere (G5)."""
