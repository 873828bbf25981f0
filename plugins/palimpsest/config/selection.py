"""Which texts a layout takes by a score, and which scores a study asks for (training/selection makes them)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from palimpsest.config.base import Seed, Strict
from palimpsest.config.generation import RUN
from palimpsest.config.training import ShortTraining

Cheap = Literal["commonness", "likelihood", "classifier"]
"""Scores that a pass over the text gives, without any training of a model of this platform."""
Method = Literal[
    "commonness", "likelihood", "classifier", "pvm", "mts", "influence", "suffix", "meta_rater", "rank", "random"
]
METHODS: tuple[Method, ...] = get_args(Method)
"""In the order they are computed; 'rank' averages others, 'meta_rater' weighs them."""
TRAINED = {"pvm": "two models", "mts": "a model and a network", "influence": "a model", "meta_rater": "proxies"}
"""Scores that models of the platform are trained for, as ``selection.<score>`` says."""
Part = Annotated[float, Field(gt=0, lt=1)]


class Select(Strict):
    """What a layout keeps of its generated texts, and apart from these of its documents of unknown origin."""

    by: Method
    """'commonness' prefers what is unlike other texts (SoftDedup, 2407.06654), 'likelihood' what a word trigram of
    real text predicts well, 'classifier' what a classifier of real against generated words takes for real (DCLM,
    2406.11794), 'pvm' what a short training on the target would rather have than one on the pool (2610.02092; needs
    'selection.pvm'), 'mts' what a network gives weight that is learned so that a model does better on the target
    (2606.00571; needs 'selection.mts'), 'influence' what lowers the loss on the target by one step of a small model
    (MATES, 2406.06046; needs 'selection.influence'), 'suffix' the rationale that makes the real text after it likelier
    (BoLT, 2503.18866; needs 'selection.suffix', and goes with 'each' alone), 'rank' the average of such ranks
    ('selection.rank'), 'meta_rater' the weighted average whose choice small models learn most from (2504.14194; needs
    'selection.meta_rater'), 'random' nothing: as many tokens by lot."""
    share: Part | None = None
    """Keep the best texts, up to this share of the tokens."""
    threshold: float | None = None
    """Keep every text whose score is at least this."""
    sample: Part | None = None
    """Keep each text with a probability that follows its weight, so that about this share of the tokens stays."""
    each: Literal["place"] | None = Field(default=None, exclude_if=lambda found: found is None)
    """Keep the best of the 'candidates' of each split point, in a layout of kind 'stretched'."""
    seed: Seed = 0
    """Another lot, for 'random' and 'sample'."""

    @model_validator(mode="after")
    def _one_rule(self) -> Select:
        given = [name for name in ("share", "threshold", "sample", "each") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "has no rule"
            raise ValueError(f"'select' {said}; give exactly one of 'share', 'threshold', 'sample' and 'each'")
        if self.by == "suffix" and not self.each:
            raise ValueError("'by: suffix' is for rationales, which have a place each; it goes with 'each: place'")
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
        if self.each is not None:
            return f"{by}, the best of each place{drawn}"
        return f"{by}, {self.sample:g} of the tokens drawn by weight{drawn}"


class PVM(ShortTraining):
    """Two short trainings of a small model, of the pool and of the target, whose losses a regression learns."""

    alpha: float = Field(default=0.1, gt=0)
    """How much the pool counts beside the target, in the second training; results hang on it, so try several."""
    ridge: float = Field(default=1.0, gt=0)
    """Penalty of the regression: higher where there are few texts."""
    seed: Seed = 0


class MTS(ShortTraining):
    """A network that weighs texts by their features, learned beside a small model that they serve; 'batch' is texts."""

    inputs: Literal["features", "loss"] = "features"
    """What the network is told of a text: its features, or its loss alone, as Meta-Weight-Net is (1902.07379)."""
    early: int = Field(default=100, ge=3)
    """Steps of the model without weights, before 'steps' with them: features say how it took each text in these."""
    texts: int = Field(default=256, ge=32)
    """Texts of each gradient of the network."""
    held: int = Field(default=128, ge=4)
    """Texts of the target for it, drawn anew each time; at least an eighth of 'texts', or more of these is in vain."""
    floor: float = Field(default=0.05, ge=0, lt=1)
    """Least weight of a text; without a floor few texts end up with all the weight."""
    rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the network."""
    patience: int = Field(default=5, ge=0)
    """Alarms in a row, at looks every twentieth of the steps, that are borne before the training fails."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _told(self) -> MTS:
        if 8 * self.held < self.texts:
            raise ValueError(f"held {self.held} must be at least an eighth of texts {self.texts}: else it drowns them")
        return self


class Influence(ShortTraining):
    """A short training of a small model of the pool, and single steps of it on texts that it has not read."""

    probes: int = Field(default=1000, ge=1)
    """Texts that a step is taken on, and taken back, at most; never more than half of all."""
    reference_tokens: int = Field(default=16_384, ge=1)
    """Tokens of the target that are read after each step, at most: most of the time goes there."""
    probe_lr: float | None = Field(default=None, gt=0)
    """Learning rate of these steps; none: a tenth of the highest of 'optimizer'. Whole steps on one text overshoot."""
    scores: list[Cheap] = ["commonness", "likelihood"]
    """What the regression has beside hashed words."""
    ridge: float = Field(default=1.0, gt=0)
    """Penalty of the regression: higher where few texts are probed."""
    seed: Seed = 0


class Suffix(Strict):
    """A model of this platform that reads the real text after a rationale, with the rationale before it and without."""

    model: str
    """'run:<study>/<run>': a trained run. One that has the documents by heart tells little."""
    tokens: int = Field(default=128, ge=1)
    """Of the text after a rationale, read at most. The rest of the model's context is for what precedes them."""

    @field_validator("model")
    @classmethod
    def _of_the_platform(cls, value: str) -> str:
        if not RUN.fullmatch(value):
            raise ValueError(f"model '{value}' names no run of this platform; write it like run:demo/real-s0")
        return value


class MetaRater(ShortTraining):
    """Proxies, small models that learn from what as many mixtures of scores take, and what is made of their losses."""

    scores: list[Cheap] = ["commonness", "likelihood", "classifier"]
    """What is mixed."""
    proxies: int = Field(default=32, ge=1)
    """Models that are trained. Each score alone and all alike are among them; more can be added later."""
    share: Part = 0.5
    """Of the tokens that layouts choose among, what each proxy learns from. Take the one that a layout will."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _enough(self) -> MetaRater:
        if len(set(self.scores)) < max(2, len(self.scores)):
            raise ValueError("'scores' are what is mixed: name two at least, each once")
        if self.proxies < (fewest := 2 * len(self.scores) + 2):
            raise ValueError(f"proxies: {self.proxies} cannot tell {len(self.scores)} scores apart; {fewest} at least")
        return self


class Selection(Strict):
    """Of all scores of a study; which of them decide is said by the layouts that 'select'."""

    methods: list[Method] = []
    """Scores to have beside those that layouts ask for, to look at."""
    rank: list[Cheap] = ["likelihood", "classifier"]
    """What 'rank' averages. Likelihood alone prefers generic text, a classifier alone what merely looks real."""

    pvm: PVM | None = None
    """What 'pvm' trains."""
    mts: MTS | None = None
    """What 'mts' trains."""
    influence: Influence | None = None
    """What 'influence' trains."""
    suffix: Suffix | None = Field(default=None, exclude_if=lambda found: found is None)
    """What 'suffix' reads with."""
    meta_rater: MetaRater | None = None
    """What 'meta_rater' mixes and trains."""

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

    @property
    def parts(self) -> dict[str, list[Cheap]]:
        """The scores that others are made of."""
        found = {name: own.scores for name in ("influence", "meta_rater") if (own := getattr(self, name))}
        return {"rank": self.rank, **found}
