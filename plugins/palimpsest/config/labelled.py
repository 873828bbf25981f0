"""A labelled study's file: which labelled data are short of what, and whether generated data repair it.

Evidence for the defaults: 50 real seeds (synthetic imputation, 2504.15160), a cap of 5 generated items per real one,
gates against oversampling, over 5 seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from palimpsest.config.base import Seed, Share, Strict
from palimpsest.config.schedule import CronOrWord
from palimpsest.config.table import Value

LabelledName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Patterns = Annotated[list[str], Field(min_length=1)]


class LabelledSource(Strict):
    kind: Literal["table", "digits"] = "table"
    """'table': JSON lines or Parquet, a row per labelled text. 'digits': scikit-learn's 1,797 handwritten digits."""
    files: list[str] = []
    """Paths (globs allowed) relative to the repository, absolute, or in the data folder ($PALIMPSEST_DATA/...)."""
    text: str = "text"
    label: str = "label"
    """Columns. A row without a label is an error, one without text is left out."""
    labels: dict[str, Patterns] = {}
    """The labels, and which values of the column each of them takes together (wildcards allowed); default: each value
    is a label."""
    others: Literal["refuse", "leave_out"] = "refuse"
    """Rows with a value that 'labels' does not have."""
    group: str | None = None
    """Column that cuts each label into cells: a domain, a language."""
    groups: list[str] = []
    """Its values, where another one is an error; default: those that come up."""
    lengths: list[int] = []
    """Cut by length instead: [700] makes groups 'under_700' and 'from_700', in words of the whole text."""
    window: int | None = Field(default=None, ge=5)
    """Words of one random stretch of each text, which then stands for it; default: the whole text."""
    per_cell: int = Field(default=2_000, ge=2)
    """At most so many rows of a cell are held, a random choice of them."""
    where: dict[str, Value] = {}

    @model_validator(mode="after")
    def _complete(self) -> LabelledSource:
        if (self.kind == "digits") != (not self.files):
            needed = "takes no 'files'" if self.files else "needs the key 'files'"
            raise ValueError(f"source kind '{self.kind}' {needed}")
        if self.group and self.lengths:
            raise ValueError("'group' and 'lengths' both cut a label into cells; keep one")
        if self.groups and not self.group:
            raise ValueError("'groups' lists the values of a column; name it as 'group'")
        if sorted(set(self.lengths)) != self.lengths:
            raise ValueError(f"lengths: {self.lengths} must rise; each bound starts another group")
        if len(self.labels) == 1:
            raise ValueError("labels: one label only; there is nothing to tell apart")
        return self


class Coverage(Strict):
    """How much of each cell is wanted, and what may be generated."""

    target: int | Literal["largest"] = "largest"
    """Training items per cell; 'largest': as many as the fullest cell has."""
    max_ratio: float = Field(default=5.0, gt=0)
    """Generated items per real one of the cell, at most."""
    min_seeds: int = Field(default=50, ge=2)
    """Real items that a cell must have before anything is generated for it; with fewer the plan says: collect."""


class Generator(Strict):
    kind: Literal["interpolate", "recombine", "trigram", "strategy"]
    """'interpolate' (digits): a point between two seeds. 'recombine' (text): the beginning of one seed and the end of
    another. 'trigram' (text): a word trigram of the cell's seeds. 'strategy' (text): a study's strategy and its engine,
    vLLM for one."""
    shift: float = Field(default=0.25, ge=0, le=1)
    """interpolate: share of the images that are moved by one pixel."""
    look_alikes: float = Field(default=0.0, ge=0, lt=1)
    """interpolate, recombine: share of the items planted with a fault, more than half of them made of a cell that is
    not short. For testbeds: what the verifier should find is then known."""
    study: str | None = None
    strategy: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Generator:
        named = bool(self.study) + bool(self.strategy)
        if named != (2 if self.kind == "strategy" else 0):
            raise ValueError("'study' and 'strategy' go with kind 'strategy', which needs both")
        if self.look_alikes and self.kind not in ("interpolate", "recombine"):
            raise ValueError("look_alikes: only 'interpolate' and 'recombine' can plant them")
        return self


class Verification(Strict):
    confidence: Share = 0.5
    """Least probability that the verifier, trained on real validation data alone, must give the item's label, which
    must also be its likeliest one."""
    attempts: int = Field(default=4, ge=1)
    """Drafts per item wanted, at most."""
    audit: int = Field(default=200, ge=1)
    """Accepted items that must have been audited, at least."""
    audit_file: str | None = None
    """JSON lines of people's verdicts: key (of generated.parquet), good (true or false). Default: planted faults are
    known; else a second classifier, trained on the real data held back, judges."""


class Learner(Strict):
    """The classifier of every arm: logistic regression on pixels, or on hashed words and marks."""

    c: float = Field(default=10.0, gt=0)
    """Inverse of its L2 penalty."""
    features: int = Field(default=1 << 14, ge=64)
    """Text: columns that words are hashed to."""
    last_on_real: bool = False
    """The last steps, of every arm that has generated items, on real ones alone (SYNAuG, 2308.00994)."""


class LabelledGates(Strict):
    gain_sd: float = Field(default=1.0, gt=0)
    """L1: over oversampling, in standard deviations of it between seeds."""
    least_seeds: int = Field(default=5, ge=2)
    """L1: with fewer it is not judged, and what was generated is not published."""
    head_loss_points: float = Field(default=1.0, ge=0)
    """L2: points of recall that cells which were not short may lose."""
    precision: Share = 0.9
    """G11: of what the verifier accepted."""


class Labelled(Strict):
    name: LabelledName
    description: str
    owner: str = "pretraining"
    schedule: CronOrWord = "manual"
    source: LabelledSource
    test: int = Field(default=60, ge=1)
    """Real items per cell that everything is measured on."""
    validation: int = Field(default=20, ge=1)
    """Real items per cell that the verifier learns from. A cell too small for both gives a third to each."""
    train: int | None = Field(default=None, ge=1)
    """At most so many real training items per cell; default: all that are left."""
    starve: dict[str, int] = {}
    """For testbeds, by label or by label/group: real training items left. The rest is held back, to say what as much
    real data would have been worth."""
    coverage: Coverage = Coverage()
    generator: Generator
    verification: Verification = Verification()
    learner: Learner = Learner()
    curve: list[float] = [0, 0.25, 0.5, 1, 2]
    """Shares of the deficit that are filled, to see what each further item is worth. Above 1, and where the cap is
    lower, they are measured and never published as data."""
    seeds: list[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    gates: LabelledGates = LabelledGates()
    experiment: bool = False
    """What the generator does is the question: a breach is said and does not keep the data from being published."""
    path: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _fits(self) -> Labelled:
        images, pixels = self.source.kind == "digits", self.generator.kind == "interpolate"
        if images != pixels:
            raise ValueError(f"generator.kind: '{self.generator.kind}' cannot write source kind '{self.source.kind}'")
        if self.schedule == "on_corpora":
            raise ValueError("schedule: 'on_corpora' is for studies; give a cron expression or 'manual'")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: each once")
        if any(share < 0 for share in self.curve) or not {0, 1} <= set(self.curve):
            raise ValueError("curve: shares of the deficit, 0 and 1 among them")
        if any(count < 1 for count in self.starve.values()):
            raise ValueError("starve: at least 1 item is left of a cell")
        return self
