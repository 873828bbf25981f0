"""Which texts a layout takes by a score, and which scores a study asks for (training/selection makes them)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from palimpsest.config.base import Seed, Strict
from palimpsest.config.training import ShortTraining

Cheap = Literal["commonness", "likelihood", "classifier"]
"""Scores that a pass over the text gives, without any training of a model of this platform."""
Method = Literal["commonness", "likelihood", "classifier", "pvm", "rank", "random"]
METHODS: tuple[Method, ...] = ("commonness", "likelihood", "classifier", "pvm", "rank", "random")
"""In the order they are computed; 'rank' is the average rank of others."""
Part = Annotated[float, Field(gt=0, lt=1)]


class Select(Strict):
    """What a layout keeps of its generated texts, and apart from these of its documents of unknown origin."""

    by: Method
    """'commonness' prefers what is unlike other texts (SoftDedup, 2407.06654), 'likelihood' what a word trigram of
    real text predicts well, 'classifier' what a classifier of real against generated words takes for real (DCLM,
    2406.11794), 'pvm' what a short training on the target would rather have than one on the pool (2610.02092; needs
    'selection.pvm'), 'rank' the average of such ranks ('selection.rank'), 'random' nothing: as many tokens by lot."""
    share: Part | None = None
    """Keep the best texts, up to this share of the tokens."""
    threshold: float | None = None
    """Keep every text whose score is at least this."""
    sample: Part | None = None
    """Keep each text with a probability that follows its weight, so that about this share of the tokens stays."""
    seed: Seed = 0
    """Another lot, for 'random' and 'sample'."""

    @model_validator(mode="after")
    def _one_rule(self) -> Select:
        given = [name for name in ("share", "threshold", "sample") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "has no rule"
            raise ValueError(f"'select' {said}; give exactly one of 'share', 'threshold' and 'sample'")
        if self.seed and self.by != "random" and self.sample is None:
            raise ValueError("'seed' is for 'by: random' and for 'sample'; nothing else in 'select' is drawn")
        return self

    @property
    def words(self) -> str:
        """The rule as a report names it."""
        by = "at random" if self.by == "random" else f"by {self.by}"
        drawn = f", seed {self.seed}" if self.seed else ""
        if self.share is not None:
            return f"{by}, {self.share:g} of the tokens{drawn}"
        if self.threshold is not None:
            return f"{by}, scores from {self.threshold:g}"
        return f"{by}, {self.sample:g} of the tokens drawn by weight{drawn}"


class PVM(ShortTraining):
    """Two short trainings of a small model, of the pool and of the target, whose losses a regression learns."""

    alpha: float = Field(default=0.1, gt=0)
    """How much the pool counts beside the target, in the second training; results hang on it, so try several."""
    ridge: float = Field(default=1.0, gt=0)
    """Penalty of the regression: higher where there are few texts."""
    seed: Seed = 0


class Selection(Strict):
    """Of all scores of a study; which of them decide is said by the layouts that 'select'."""

    methods: list[Method] = []
    """Scores to have beside those that layouts ask for, to look at."""
    rank: list[Cheap] = ["likelihood", "classifier"]
    """What 'rank' averages. Likelihood alone prefers generic text, a classifier alone what merely looks real."""

    pvm: PVM | None = None
    """What 'pvm' trains."""

    @field_validator("methods", "rank")
    @classmethod
    def _each_once(cls, value: list) -> list:
        if len(set(value)) < len(value):
            raise ValueError("name each score once")
        return value

    @field_validator("rank")
    @classmethod
    def _several(cls, value: list) -> list:
        if len(value) < 2:
            raise ValueError("an average takes two scores at least; with one, select 'by' that one")
        return value
