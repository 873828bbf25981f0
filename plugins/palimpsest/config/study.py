"""A study file: what is held out, generated, laid out, mixed and trained, each name checked against the others."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from palimpsest.config.base import Fraction, Name, Seed, Share, Strict, known
from palimpsest.config.generation import Server, Strategy
from palimpsest.config.schedule import CronOrWord


class Validation(Strict):
    """Which real documents are held out. They are excluded before anything is generated."""

    rule: Literal["urls", "hash_share", "sites"]
    urls_file: str | None = None
    share: Share | None = None
    sites: list[str] = []
    short_max_words: int = Field(default=200, gt=0)
    """Documents of at most so many words are the 'short' set."""
    long_min_words: int = Field(default=1_000, gt=0)
    """Documents of at least so many words are the 'long' set: the long-context loss."""

    @model_validator(mode="after")
    def _complete(self) -> Validation:
        needed = {"urls": "urls_file", "hash_share": "share", "sites": "sites"}[self.rule]
        if not getattr(self, needed):
            raise ValueError(f"rule '{self.rule}' needs the key '{needed}'")
        return self


class Tokenizer(Strict):
    vocab_size: int = Field(default=32_768, ge=512)
    path: str | None = None
    """A tokenizer.json to load in place of training one on the study's real documents."""


class Layout(Strict):
    kind: Literal["real", "simple", "stitched", "stretched"]
    strategy: str | None = None
    """The strategy whose generations are laid out; none for 'real'."""
    generations: int | None = Field(default=None, ge=1)
    """Use only the first so many (prefix-nested G); default all."""
    real: Literal["last", "first", "none"] = "last"
    """Where the real document stands in a stitched megadoc; for 'simple' only whether it takes part."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _complete(self) -> Layout:
        if (self.kind == "real") != (self.strategy is None):
            raise ValueError("layout 'real' has no 'strategy'; every other layout needs one")
        if self.real != "last" and self.kind not in ("simple", "stitched"):
            raise ValueError(f"'real' has no meaning for kind '{self.kind}'; it is for 'simple' and 'stitched'")
        return self


class Mix(Strict):
    """One training diet: the real stream at 1 - f and one synthetic stream at f (Kim et al. 2026, section 4)."""

    layout: str
    f: Fraction = 0.0
    epochs: float = Field(gt=0)
    """Passes over the real stream; f adds synthetic text on top of it."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Cap on the synthetic stream: only its first so many tokens are used."""


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


class Model(Strict):
    layers: int = Field(ge=1)
    width: int = Field(ge=8)
    mlp: int = Field(ge=8)
    heads: int = Field(ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    tied: bool = False
    rope_theta: float = 10_000.0

    @model_validator(mode="after")
    def _divides(self) -> Model:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        return self


class Optimizer(Strict):
    """AdamW, cosine to ``min_lr_ratio``, linear warm-up (megadocs paper, section 4 of the digest)."""

    lr: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip: float = Field(default=1.0, gt=0)
    warmup: float = Field(default=0.01, ge=0, lt=1)
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)


class Training(Strict):
    model: Model
    optimizer: Optimizer = Optimizer()
    context: int = Field(default=4096, ge=16)
    batch: int = Field(default=64, ge=1)
    """Sequences per step."""
    block: int = Field(default=2048, ge=1)
    """Sequences per mixing block: inside each, the synthetic share is exact."""
    seeds: list[Seed] = Field(default=[0], min_length=1)
    """Paired across mixes: seed s means the same initial weights and window order everywhere."""
    reference_shares: list[Share] = []
    """Shares of the real documents on which the real-only recipe is trained too: the scaling law is read off these."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = Field(default=1, ge=1)
    """CPU threads per process (runs go in parallel)."""
    evaluations: int = Field(default=8, ge=1)
    """Points on the validation curve."""
    attention: Literal["across", "documents", "megadocs"] = "across"
    """What a token sees of its window: all before it ('across', the paper's choice), or only its own document (a
    rephrase and its source are two), or only its own megadoc."""
    loss_on: Literal["all", "real"] = "all"
    """Tokens that are learned: all (the paper's choice), or those of real text alone; the rest is only read."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of features dropped after the embedding, each attention and each MLP."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over the vocabulary; the train loss is then the smoothed one."""
    micro_tokens: int = Field(default=65_536, ge=1)
    """Tokens per forward and backward of one process, at least one window; a larger batch is accumulated. Lower it
    where memory runs out."""
    processes: int = Field(default=1, ge=1)
    """Processes of one run on one machine (torchrun): the batch is divided among them, one GPU each."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: the whole model in each, or (FSDP2) parameters, gradients and moments divided."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile for the blocks: 'auto' on GPUs only. On a CPU it takes half a minute and a quarter off each step
    (34 s and 27% for 2 layers of width 128 in bf16), so it pays in runs of over two minutes."""
    checkpoint_seconds: float = Field(default=300, ge=0)
    """Between checkpoints, more where one takes long (5% of the run at most); 0: after every step."""

    @model_validator(mode="after")
    def _divided(self) -> Training:
        if self.batch < self.processes:
            raise ValueError(f"batch {self.batch} must be at least processes {self.processes}: a window each")
        return self


class Study(Strict):
    name: Name
    description: str
    owner: str = "pretraining"
    corpora: list[str] = Field(min_length=1)
    schedule: CronOrWord = "on_corpora"
    """'on_corpora' (when a corpus publishes), 'manual', or a cron expression."""
    validation: Validation
    tokenizer: Tokenizer = Tokenizer()
    shards: int = Field(default=2, ge=1, le=1000)
    servers: dict[Name, Server] = {}
    strategies: dict[Name, Strategy] = {}
    layouts: dict[Name, Layout]
    mixes: dict[Name, Mix]
    reference: str
    """The real-only mix every other is compared with."""
    gates: Gates = Gates()
    budget_gpu_hours: float = Field(default=10, ge=0)
    """Generation estimated to take longer waits for a person's approval."""
    training: Training
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
        if not any(layout.kind == "real" for layout in self.layouts.values()):
            raise ValueError("layouts: one of kind 'real' is needed; every mix draws on it")
        for name, mix in self.mixes.items():
            known(f"mixes.{name}.layout", mix.layout, self.layouts)
            if (self.layouts[mix.layout].kind == "real") != (mix.f == 0):
                raise ValueError(f"mixes.{name}: f is 0 for the 'real' layout and above 0 for every other")
            if mix.max_tokens and not mix.f:
                raise ValueError(f"mixes.{name}: max_tokens caps the synthetic stream, and this mix has none")
        known("reference", self.reference, self.mixes)
        if self.mixes[self.reference].f != 0:
            raise ValueError(f"reference: mix '{self.reference}' is not real-only")
        for name in self.mixes.keys() & self.reference_recipes.keys():
            raise ValueError(
                f"mixes.{name}: this is the name of the reference '{self.reference}' trained on a share of "
                f"{self.reference_recipes[name]:g} of the real documents (training.reference_shares); rename the mix"
            )
        return self

    @property
    def reference_recipes(self) -> dict[str, float]:
        """The reference mix on less of the real text: recipe name → share, the smallest first."""
        shares = sorted(set(self.training.reference_shares) - {1.0})
        return {f"{self.reference}_{share:g}".replace(".", "p"): share for share in shares}

    @property
    def real_layout(self) -> str:
        return next(name for name, layout in self.layouts.items() if layout.kind == "real")
