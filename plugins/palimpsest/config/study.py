"""A study file: what is held out, generated, laid out, mixed and trained, each name checked against the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from palimpsest.config.base import Name, Seed, Share, Strict, known
from palimpsest.config.continual import Slice
from palimpsest.config.cost import Assumed
from palimpsest.config.evaluation import OWN_SETS, Judging, Validation
from palimpsest.config.generation import Server, Strategy
from palimpsest.config.guard import Guard
from palimpsest.config.mixes import Mix, Search
from palimpsest.config.schedule import CronOrWord
from palimpsest.config.selection import METHODS, TRAINED, Method, Select, Selection
from palimpsest.config.training import Training


class Tokenizer(Strict):
    vocab_size: int = Field(default=32_768, ge=512)
    path: str | None = None
    """A tokenizer.json to load in place of training one on the study's real documents."""
    hub: str | None = Field(default=None, pattern=r"^[\w.-]+(/[\w.-]+)?$", exclude_if=lambda found: found is None)
    """Or that of a model on the hub, like meta-llama/Llama-3.1-8B, with 'revision': both are in the study's key."""
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$", exclude_if=lambda found: found is None)
    """The hub model's commit in full: a branch would be another tokenizer tomorrow."""
    end: str | None = Field(default=None, min_length=1, exclude_if=lambda found: found is None)
    """What 'path' or 'hub' calls the token that ends a document, where not <|endoftext|>: <|end_of_text|> (Llama 3),
    </s>. The study's copy calls it <|endoftext|>; ids stay. It stands between documents, so it begins the next as well;
    a token of the tokenizer's own for the beginning is not used."""

    @model_validator(mode="after")
    def _of_a_file(self) -> Tokenizer:
        if self.path and self.hub:
            raise ValueError("'path' and 'hub' both name a tokenizer; take one of them out")
        if bool(self.hub) != bool(self.revision):
            raise ValueError("'hub' and 'revision' go together: the model, and its commit in full (40 digits)")
        if self.end and not (self.path or self.hub):
            raise ValueError("'end' names a token of the tokenizer in 'path' or 'hub', and there is none")
        return self


class Layout(Strict):
    kind: Literal["real", "simple", "stitched", "stretched"]
    strategy: str | None = None
    """The strategy whose generations are laid out; none for 'real'."""
    also: list[str] = []
    """For 'simple': further strategies whose generations stand beside its own, the pool of several generators."""
    generations: int | None = Field(default=None, ge=1)
    """Use only the first so many (prefix-nested G); default all."""
    real: Literal["last", "first", "none"] = "last"
    """Where the real document stands in a stitched megadoc; for 'simple' only whether it takes part."""
    align: Literal["importance"] | None = None
    """Keep of the generated texts those that look more like real ones more often: each with a probability that
    follows the odds, real against generated, of a classifier that has not seen its document. Documents of unknown
    origin are chosen among in the same way. The stream gets smaller; a mix still trains for as many tokens."""
    clip: float | None = Field(default=None, gt=1)
    """With 'align': the most that a text may count, in means of all (default 2). A share of 1 / clip of the texts is
    kept: of more texts to choose from, fewer are chosen, and those are more like real ones."""
    select: Select | None = Field(default=None, exclude_if=lambda found: found is None)
    """Keep those texts that a score of ``training/selection`` prefers, within generated texts and within documents of
    unknown origin; documents that people wrote always stay. A mix still trains for as many tokens. A 'stretched'
    layout keeps the best of the candidates of each place ('each: place'), without 'select' the first."""
    seed: Seed = 0

    @property
    def strategies(self) -> list[str]:
        """All whose generations are laid out."""
        return [self.strategy, *self.also] if self.strategy else []

    @model_validator(mode="after")
    def _complete(self) -> Layout:
        if (self.kind == "real") != (self.strategy is None):
            raise ValueError("layout 'real' has no 'strategy'; every other layout needs one")
        if self.real != "last" and self.kind not in ("simple", "stitched"):
            raise ValueError(f"'real' has no meaning for kind '{self.kind}'; it is for 'simple' and 'stitched'")
        if self.also and (self.kind != "simple" or len({self.strategy, *self.also}) <= len(self.also)):
            raise ValueError("'also' names other strategies than 'strategy', each once, and is for kind 'simple'")
        if self.align and self.kind == "stretched":
            raise ValueError("'align' is not for kind 'stretched': each of its rationales has a place of its own")
        if self.select and (self.kind == "stretched") != (self.select.each is not None):
            raise ValueError(
                "'select' of kind 'stretched' is 'each: place', for each of its rationales has a place of its own; "
                "elsewhere it is 'share', 'threshold' or 'sample'"
            )
        if self.select and self.align:
            raise ValueError("'align' and 'select' both say which texts are kept; take one of them out")
        if self.clip and not self.align:
            raise ValueError("'clip' is a setting of 'align'; set 'align: importance' too, or take it out")
        return self


class Gates(Strict):
    max_synthetic_share: float = Field(default=0.9, ge=0, le=1)
    min_real_tokens: int = Field(default=1, ge=0)
    max_truncated_share: float = Field(default=0.05, ge=0, le=1)
    max_duplicate_share: float = Field(default=0.01, ge=0, le=1)
    max_near_copy_share: float = Field(default=0.10, ge=0, le=1)
    near_copy_overlap: float = Field(default=0.80, gt=0, le=1)
    """A generation sharing this share of its word 5-grams with its source is a near-copy."""
    validation_ngram: int = Field(default=13, ge=3)
    """No training row may hold a run of so many words of a validation document."""
    max_dropped_share: float = Field(default=0.10, ge=0, le=1)
    """Of a strategy's generations, those that the review drops for one and the same defect."""
    min_faithfulness: float = Field(default=0.0, ge=0, le=1)
    """Mean faithfulness of each strategy's generations to their sources (1: the same names, numbers and terms)."""
    min_length_ratio: float = Field(default=0.05, ge=0)
    max_length_ratio: float = Field(default=5.0, gt=0)
    """Words of a generation over words of its source: bounds on the 5% and the 95% quantile of each strategy."""


class Study(Strict):
    name: Name
    description: str
    owner: str = "pretraining"
    corpora: list[str] = Field(min_length=1)
    schedule: CronOrWord = "on_corpora"
    """'on_corpora' (when a corpus publishes), 'manual', or a cron expression."""
    validation: Validation
    tokenizer: Tokenizer = Tokenizer()
    real_share: Share = 1.0
    """Share of the training documents that mixes may use: data made scarce on purpose. The rest is only for the
    reference, whose 'reference_shares' (of all training documents) can then go beyond it and what a mix is worth is
    measured, not extrapolated. Tokenizer and generations see nothing of the rest."""
    sampling_seed: Seed = Field(default=0, exclude_if=lambda found: found == 0)
    """Another one draws other documents for 'real_share': what a figure owes to the documents that happened to be
    drawn shows in a study that differs in this alone."""
    slice: Slice | None = None
    """Only one part of the training documents, and some of the parts before it: a round of a continual loop."""
    shards: int = Field(default=2, ge=1, le=1000)
    servers: dict[Name, Server] = {}
    strategies: dict[Name, Strategy] = {}
    layouts: dict[Name, Layout]
    mixes: dict[Name, Mix]
    reference: str
    """The real-only mix every other is compared with."""
    gates: Gates = Gates()
    guard: Guard = Guard()
    selection: Selection = Field(default=Selection(), exclude_if=lambda found: found == Selection())
    budget_gpu_hours: float = Field(default=10, ge=0)
    """Generation estimated to take longer waits for a person's approval; the printed cost compares training too."""
    assumed: Assumed = Field(default=Assumed(), exclude=True)
    """Sizes and speeds that the printed cost is reckoned with until they are known."""
    training: Training
    search: Search | None = None
    """Without it every mix trains with the settings it has."""
    judging: Judging = Judging()
    path: Path = Field(default=Path(), exclude=True)

    @field_validator("layouts", "mixes")
    @classmethod
    def _not_empty(cls, value: dict) -> dict:
        if not value:
            raise ValueError("needs at least one entry")
        return value

    @model_validator(mode="after")
    def _references(self) -> Study:
        for name, strategy in self.strategies.items():
            if strategy.engine.server is not None:
                known(f"strategies.{name}.engine.server", strategy.engine.server, self.servers)
                context = self.servers[strategy.engine.server].context
                if strategy.sampling.max_tokens >= context:
                    raise ValueError(
                        f"strategies.{name}.sampling.max_tokens is {strategy.sampling.max_tokens}, and "
                        f"servers.{strategy.engine.server}.context of {context} tokens must hold the prompt as well; "
                        "lower the one or raise the other"
                    )
        for name in self.assumed.written:
            known("assumed.written", name, self.strategies)
        for name in self.guard.in_distribution if self.guard.in_distribution != "all" else ():
            known("guard.in_distribution", name, self.strategies)
        for name, layout in self.layouts.items():
            if layout.strategy is not None:
                known(f"layouts.{name}.strategy", layout.strategy, self.strategies)
                strategy = self.strategies[layout.strategy]
                if (layout.kind == "stretched") != (strategy.kind == "rationale"):
                    raise ValueError(f"layouts.{name}: 'stretched' is for 'rationale' strategies, and only for them")
                if layout.generations and layout.generations > strategy.generations:
                    raise ValueError(
                        f"layouts.{name}.generations is {layout.generations}, but strategy '{layout.strategy}' "
                        f"makes only {strategy.generations}"
                    )
                if layout.kind == "stretched" and layout.generations not in (None, strategy.generations):
                    raise ValueError(
                        f"layouts.{name}.generations: rationales belong to fixed split points; use them all"
                    )
                if layout.select and layout.kind == "stretched" and strategy.candidates == 1:
                    raise ValueError(
                        f"layouts.{name}.select: strategy '{layout.strategy}' asks for one rationale at each place, so "
                        f"there is nothing to choose from; give strategies.{layout.strategy} more 'candidates'"
                    )
            for other in layout.also:
                known(f"layouts.{name}.also", other, self.strategies)
                if self.strategies[other].kind == "rationale":
                    raise ValueError(
                        f"layouts.{name}.also: '{other}' makes rationales, which are for 'stretched' alone"
                    )
            if layout.align and not self.strategies:
                raise ValueError(f"layouts.{name}.align: the study has no strategy, so nothing to tell real text from")
        if self.selects and not self.strategies:
            raise ValueError("'select' and 'selection.methods': the study has no strategy, so nothing to choose from")
        for method, models in TRAINED.items():
            if method in self.selects and not getattr(self.selection, method):
                raise ValueError(
                    f"selection.{method}: selecting by '{method}' trains {models}; name 'model' and 'steps' there"
                )
        if "suffix" in self.selects and not self.selection.suffix:
            raise ValueError("selection.suffix: selecting by 'suffix' reads with a model; name a run as 'model' there")
        if self.sampling_seed and self.real_share == 1:
            raise ValueError("sampling_seed draws the documents of 'real_share', which is 1: all; lower it")
        if not any(layout.kind == "real" for layout in self.layouts.values()):
            raise ValueError("layouts: one of kind 'real' is needed; every mix draws on it")
        for name, mix in self.mixes.items():
            known(f"mixes.{name}.layout", mix.layout, self.layouts)
            if (self.layouts[mix.layout].kind == "real") != (mix.f == 0):
                raise ValueError(f"mixes.{name}: f is 0 for the 'real' layout and above 0 for every other")
            for other in mix.beside:
                known(f"mixes.{name}.beside", other, self.layouts)
                if self.layouts[other].kind == "real" or other == mix.layout or not mix.f:
                    raise ValueError(
                        f"mixes.{name}.beside: '{other}' is no further synthetic layout beside that of a mix with f > 0"
                    )
            for key in ("max_tokens", "max_ratio"):
                if getattr(mix, key) and not mix.f:
                    raise ValueError(f"mixes.{name}: {key} caps the synthetic stream, and this mix has none")
            if mix.real_share and mix.real_share > self.real_share:
                raise ValueError(
                    f"mixes.{name}.real_share is {mix.real_share:g}, but the study's mixes may use {self.real_share:g} "
                    "(real_share)"
                )
        self._tuned()
        for name in self.judging.ensembles:
            known("judging.ensembles", name, self.mixes)
        for name in self.judging.contexts:
            known("judging.contexts", name, OWN_SETS | self.validation.sets.keys())
        known("judging.long_context", self.judging.long_context, {"long"} | self.validation.sets.keys())
        known("reference", self.reference, self.mixes)
        if self.mixes[self.reference].f != 0:
            raise ValueError(f"reference: mix '{self.reference}' is not real-only")
        for name in self.mixes.keys() & self.reference_recipes.keys():
            raise ValueError(
                f"mixes.{name}: this is the name of the reference '{self.reference}' trained on a share of "
                f"{self.reference_recipes[name]:g} of the real documents (training.reference_shares); rename the mix"
            )
        return self

    def _tuned(self) -> None:
        """Every mix trains with valid settings, starts its search on the axes, and follows one that is searched."""
        if self.search:
            known("search.metric", self.search.metric, OWN_SETS | self.validation.sets.keys())
        for name, mix in self.mixes.items():
            training = self.training_of(name)
            if isinstance(mix.search, dict) and not self.is_searched(name):
                raise ValueError(f"mixes.{name}.search: gives values of axes, and this mix is not searched along any")
            if self.is_searched(name):
                search = self.search_of(name)
                start = {"lr": training.optimizer.lr, "weight_decay": training.optimizer.weight_decay}
                start |= {"epochs": mix.epochs, "f": mix.f}
                for axis in search.axes(mix):
                    if start[axis] not in (values := getattr(search, axis)):
                        own = isinstance(mix.search, dict) and axis in mix.search
                        place = f"mixes.{name}.search.{axis}" if own else f"search.{axis}"
                        raise ValueError(
                            f"mixes.{name}: its search starts at {axis} {start[axis]:g}, which is none of "
                            f"{place} {values}; add it there or start elsewhere"
                        )
            followed = {"like": mix.like, "match.mix": mix.match.mix if mix.match else None}
            for key, other in followed.items():
                if other is None:
                    continue
                known(f"mixes.{name}.{key}", other, self.mixes)
                if self.mixes[other].like or self.mixes[other].match:
                    raise ValueError(f"mixes.{name}.{key}: '{other}' follows another mix itself; name that one")
            if mix.like and any((mix.f == end) != (self.mixes[mix.like].f == end) for end in (0, 1)):
                raise ValueError(
                    f"mixes.{name}.like: '{mix.like}' has no f and epochs to take over; f is 0 or 1 in one of the two"
                )

    def mix_of(self, recipe: str) -> Mix:
        """The mix a recipe trains: itself, or the reference on a share of the text."""
        return self.mixes[self.reference if recipe in self.reference_recipes else recipe]

    def generations_in(self, layouts: Iterable[str]) -> dict[str, int]:
        """G of every strategy that one of the layouts has text of: how many generations per document, each once."""
        most: dict[str, int] = {}
        for layout in map(self.layouts.__getitem__, layouts):
            for name in layout.strategies:
                most[name] = max(most.get(name, 0), self.first_of(layout, name))
        return most

    def first_of(self, layout: Layout, strategy: str) -> int:
        """Of each document a layout has the samples of a strategy below this number, or chooses among them."""
        own = self.strategies[strategy]
        return layout.generations or (own.samples if layout.select and layout.select.each else own.generations)

    def places_of(self, layout: Layout) -> int | None:
        """Split points of a stretched layout's documents: sample g is a candidate for that of g mod places."""
        return self.strategies[layout.strategy].generations if layout.kind == "stretched" else None

    @property
    def selects(self) -> tuple[Method, ...]:
        """The scores that layouts or 'selection.methods' ask for, in the order they are computed."""
        asked = {layout.select.by for layout in self.layouts.values() if layout.select} | {*self.selection.methods}
        asked |= {part for method, parts in self.selection.parts.items() if method in asked for part in parts}
        return tuple(name for name in METHODS if name in asked)

    def is_searched(self, recipe: str) -> bool:
        found = self.mix_of(recipe)
        return self.search is not None and found.search is not False and not found.like and not found.match

    def search_of(self, recipe: str) -> Search:
        """The study's search with the values of axes that are otherwise in this recipe's mix."""
        own = self.mix_of(recipe).search
        if not isinstance(own, dict):
            return self.search
        try:
            return Search.model_validate({**self.search.model_dump(), **own})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in ("mixes", recipe, "search", *first["loc"]))
            raise ValueError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None

    def training_of(self, mix: str) -> Training:
        """The study's training with what the mix (or the reference on a share of the text) has otherwise."""
        own = self.mix_of(mix).training
        if not own:
            return self.training
        if "reference_shares" in own:
            raise ValueError(f"mixes.{mix}.training.reference_shares: belongs to the study; set it under 'training'")
        try:
            found = self.training.changed(own)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in ("mixes", mix, "training", *first["loc"]))
            raise ValueError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None
        if missing := set(self.training.seeds) - set(found.seeds):
            raise ValueError(
                f"mixes.{mix}.training.seeds: lacks {min(missing)}; mixes are compared seed by seed, so each has those "
                "of the study, and may have more"
            )
        return found

    @property
    def reference_recipes(self) -> dict[str, float]:
        """The reference mix on less of the real text: recipe name → share, the smallest first."""
        shares = sorted(set(self.training.reference_shares) - {self.real_share})
        return {f"{self.reference}_{share:g}".replace(".", "p"): share for share in shares}

    @property
    def real_layout(self) -> str:
        return next(name for name, layout in self.layouts.items() if layout.kind == "real")
