"""Training diets, and how their hyperparameters are found."""

from __future__ import annotations

from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from palimpsest.config.base import Fraction, Name, Seed, Share, Strict

AXES = ("lr", "weight_decay", "epochs", "f")
"""What a search moves along, in this order; ``lr`` and ``weight_decay`` are the optimizer's, the others the mix's."""
Axis = Literal["lr", "weight_decay", "epochs", "f"]


class Match(Strict):
    """Epochs that spend as much as another mix does at its best point (f and the other settings stay its own)."""

    mix: str
    by: Literal["compute", "tokens", "real_tokens"]
    """'compute': as many FLOPs, whatever the model and the context of each; 'tokens': as many trained tokens;
    'real_tokens': as many tokens of real text seen, copies included."""


class Mix(Strict):
    """One training diet: the real stream at 1 - f and the synthetic ones at f (Kim et al. 2026, section 4: one)."""

    layout: str
    beside: dict[Name, Annotated[float, Field(gt=0)]] = {}
    """Layouts that are streams of their own, and how many windows of each are dealt for one of 'layout'."""
    f: float = Field(default=0.0, ge=0, le=1)
    """Share of the windows that come from the synthetic streams."""
    epochs: float = Field(gt=0)
    """Passes over the real stream; f adds synthetic text on top of it. With f = 1 there is no separate real stream, and
    they are passes over the synthetic ones (which may hold real documents)."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Cap on the synthetic stream: only its first so many tokens are used; several share it by weight."""
    max_ratio: float | None = Field(default=None, gt=0)
    """The same cap as a multiple of the tokens that the mix has of real documents."""
    real_share: Share | None = None
    """Share of the training documents in the mix's real stream; default: all that mixes may use ('real_share')."""
    search: bool | dict[Axis, list[float]] = True
    """Where the study has a 'search': find this mix's best point, from its own settings on. False: they are fixed.
    {lr: [1.0e-3, 3.0e-3]}: these values of an axis in place of the study's."""
    like: str | None = None
    """'Controlled': lr, weight decay, epochs and f of another mix's best point."""
    match: Match | None = None
    training: dict[str, Any] = {}
    """Settings of the study's 'training' that are otherwise in this mix: {attention: documents, model: {layers: 2}}."""

    @model_validator(mode="after")
    def _one_way(self) -> Mix:
        if self.like and self.match:
            raise ValueError("'like' and 'match' both say how long to train; keep one")
        return self

    @property
    def layouts(self) -> tuple[str, ...]:
        return (self.layout, *self.beside)

    @property
    def streams(self) -> dict[str, float]:
        """Layout of each synthetic stream, and where its part of the synthetic windows ends: that of the last at 1."""
        if not self.f:
            return {}
        weights = [1.0, *self.beside.values()]
        ends = [*accumulate(weight / sum(weights) for weight in weights[:-1]), 1.0]
        return dict(zip(self.layouts, ends, strict=True))


class Search(Strict):
    """The best point of every mix: coordinate descent with a neighbour certificate (Kim et al. 2026, section 4).

    The centre and both its neighbours on each axis are trained; the centre moves to the best of them until it wins.
    """

    method: Literal["coordinate", "grid"] = "coordinate"
    """'grid' trains every combination."""
    lr: list[float] = []
    weight_decay: list[float] = []
    epochs: list[float] = []
    f: list[Fraction] = []
    """Values of each axis; one that is not given stays where the mix has it. Real-only mixes have no axis 'f'."""
    metric: Name = "iid"
    """The held-out set whose loss at the end of a run decides."""
    seed: Seed = 0
    """All points of a search train with it; the best point then with all of 'training.seeds'."""
    max_runs: int | None = Field(default=None, ge=1)
    """Points per mix: a search that has not ended by then takes the best so far, and says so. Without it 64, and of a
    'grid' all."""
    max_waves: int = Field(default=8, ge=1, le=32)
    """Rounds of runs, each of them mapped tasks: moves of the centre at most."""

    @field_validator(*AXES)
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if any(later <= earlier for earlier, later in zip(value, value[1:], strict=False)):
            raise ValueError("write the values in ascending order, each once")
        return value

    @model_validator(mode="after")
    def _moves(self) -> Search:
        if not any(getattr(self, axis) for axis in AXES):
            raise ValueError(f"give the values of at least one axis: {', '.join(AXES)}")
        for axis in AXES:
            if any(value <= 0 for value in getattr(self, axis) if axis != "weight_decay"):
                raise ValueError(f"{axis}: values must be above 0")
        return self

    @property
    def most(self) -> int | None:
        """Points per mix; None: all of them."""
        return self.max_runs or (None if self.method == "grid" else 64)

    def axes(self, mix: Mix) -> tuple[str, ...]:
        """The axes this mix is searched along."""
        return tuple(axis for axis in AXES if getattr(self, axis) and (axis != "f" or 0 < mix.f < 1))
