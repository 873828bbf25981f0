"""How a study's models are made: architecture, optimizer and everything else that shapes a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from palimpsest.config.base import Seed, Share, Strict
from palimpsest.packing import Packing


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


UNDECAYED = ("norms", "embedding")


class Optimizer(Strict):
    """AdamW, cosine to ``min_lr_ratio``, linear warm-up (megadocs paper, section 4 of the digest)."""

    lr: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip: float = Field(default=1.0, gt=0)
    warmup: float = Field(default=0.01, ge=0, lt=1)
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    # settings that came later are in no key at their defaults
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", exclude_if=lambda found: found == "cosine"
    )
    """How the learning rate goes down after the warm-up: cosine (the paper's choice), linearly, or not at all."""
    cooldown: float = Field(default=0.0, ge=0, le=1, exclude_if=lambda found: not found)
    """With 'constant': share of the steps after the warm-up, the last ones, over which the rate goes down linearly."""
    undecayed: list[Literal["norms", "embedding", "output", "matrices"]] = Field(
        default=[*UNDECAYED], exclude_if=lambda found: sorted(found) == sorted(UNDECAYED)
    )
    """Weights without decay: norms and embeddings in the paper, whose output matrix is decayed like all others. A tied
    output matrix is the embedding. There are no biases."""

    @model_validator(mode="after")
    def _goes_down(self) -> Optimizer:
        if self.cooldown and self.schedule != "constant":
            raise ValueError(f"'cooldown' is of schedule 'constant', and this one is '{self.schedule}'")
        return self


class Training(Strict):
    model: Model
    optimizer: Optimizer = Optimizer()
    context: int = Field(default=4096, ge=16)
    batch: int = Field(default=64, ge=1)
    """Sequences per step."""
    block: int = Field(default=2048, ge=1)
    """Sequences per mixing block: inside each, the synthetic share is exact."""
    packing: Packing = "cut"
    """How megadocs are laid into windows (`palimpsest.packing`): cut anywhere from one stream, as in the paper, or kept
    whole and padded, one to a window ('pad') or as many as fit ('best_fit')."""
    reshuffle: bool = False
    """Another order of the windows at each pass over a stream; the paper deals the same one again."""
    data_seed: Seed | None = None
    """One order of the windows for all seeds, which then differ in their initial weights alone; none: each its own."""
    seeds: list[Seed] = Field(default=[0], min_length=1)
    """Paired across mixes: seed s means the same initial weights and window order everywhere. A mix may have more of
    them (an ensemble's members), never fewer."""
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
    loss_on: Literal["all", "real", "text"] = "all"
    """Tokens that are learned: all (the paper's choice), those of real text alone, or those of any text but not what
    delimits it ('text'): the boundary after each document, <think> and </think>. The rest is only read. Held-out losses
    count each document's boundary for every run; one that learns 'text' alone cannot tell it, so its losses are higher
    by that, most of all on short documents."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of features dropped after the embedding, each attention and each MLP."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over the vocabulary; the train loss is then the smoothed one."""
    micro_tokens: int = Field(default=65_536, ge=1)
    """Tokens per forward and backward of one process, at least one window; a larger batch is accumulated. Lower it
    where memory runs out."""
    processes: int = Field(default=1, ge=1)
    """Processes of one run (torchrun): the batch is divided among them, one GPU each. They are of one machine, or
    divided evenly over PALIMPSEST_NODES. Selection by 'mts' takes those of its own machine."""
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
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: each once; a run that counts twice makes the scatter of seeds look smaller")
        return self

    def changed(self, settings: Mapping[str, Any]) -> Training:
        """These with some otherwise; of a part (model, optimizer) only what is given. Raises pydantic's errors."""
        found = self.model_dump()
        for key, value in settings.items():
            inner = isinstance(found.get(key), dict) and isinstance(value, Mapping)
            found[key] = found[key] | dict(value) if inner else value
        return Training.model_validate(found)


class ShortTraining(Strict):
    """A small model that is trained for a few steps, to tell texts apart."""

    model: Model
    steps: int = Field(ge=1)
    """Of each training."""
    context: int = Field(default=256, ge=16)
    batch: int = Field(default=16, ge=1)
    """Sequences per step."""
    optimizer: Optimizer = Optimizer()
