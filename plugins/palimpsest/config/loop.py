"""A loop file: models that learn from what the models before them wrote, round after round.

Every round is a study of its own, ``<loop>_round_<k>``, with a mix per arm. In round 0 a model learns from real text
alone; in round k the newest model of each arm writes, and a new one learns from the mix that the arm's policy makes.
In a continual loop the real text is another one in each round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from palimpsest.config.base import Name, Share, Strict
from palimpsest.config.continual import Continual
from palimpsest.config.evaluation import Validation
from palimpsest.config.generation import Review, Sampling
from palimpsest.config.guard import Guard
from palimpsest.config.schedule import CronOrWord
from palimpsest.config.study import Gates, Study, Tokenizer
from palimpsest.config.training import Training

LoopName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,35}$")]
BASELINE = "real"
"""The arm, in every round, that is trained on real text alone."""
Policy = Literal["replace", "accumulate", "subsample"]
"""What a round learns from. 'replace': the newest model's text and real text. 'accumulate': real text and all that was
ever written. 'subsample': a draw from that, as large as the real text."""


def least_real(policy: Policy, real: float, round_: int) -> float:
    """The share of real text in round ``round_`` of a mix as large as the real text, of which an arm asks for ``real``.

    Of all that 'subsample' draws from, one part in round_ + 1 is real (Kazdan et al. 2024, 2410.16713).
    """
    return max(real, 1 / (round_ + 1)) if policy == "subsample" else real


class Arm(Strict):
    """What each round's model learns from; every arm sees as many tokens."""

    policy: Policy
    real: float = Field(default=0.0, ge=0, le=1)
    """replace: the share of real text. subsample: its least share; a plain draw in round k has 1 / (k + 1)."""
    sampling: dict[str, Any] = {}
    """Where it writes otherwise than the loop says: {temperature: 0.7}."""

    @model_validator(mode="after")
    def _shares(self) -> Arm:
        if self.policy == "accumulate" and self.real:
            raise ValueError("policy 'accumulate' keeps all real text; 'real' is for 'replace' and 'subsample'")
        if self.policy == "subsample" and self.real == 1:
            raise ValueError("real 1 leaves no room for anything else; that is policy 'replace' with real 1")
        return self


class Loop(Strict):
    name: LoopName
    description: str
    owner: str = "pretraining"
    corpora: list[str] = Field(min_length=1)
    schedule: CronOrWord = "manual"
    rounds: int = Field(ge=1, le=20)
    """Rounds after round 0."""
    experiment: bool = False
    """Collapse is what it studies: the guard says what it finds and stops nothing."""
    arms: dict[Name, Arm] = Field(min_length=1)
    passes: float = Field(gt=0)
    """Over the real text in round 0; all arms then train for as many tokens."""
    generations: int = Field(default=1, ge=1, le=64)
    """Texts written per real document and round; together they should have as many tokens as the real text."""
    server: dict[str, Any] = {}
    """What serves the models: a study's 'servers.<name>' without its model."""
    sampling: Sampling = Sampling()
    review: Review = Review()
    validation: Validation
    tokenizer: Tokenizer = Tokenizer()
    real_share: Share = 1.0
    continual: Continual | None = None
    """Every round has real text of its own, and some of the earlier rounds'; otherwise all rounds have the same."""
    shards: int = Field(default=1, ge=1, le=1000)
    gates: Gates = Gates()
    guard: Guard = Guard()
    budget_gpu_hours: float = Field(default=10, ge=0)
    training: Training
    path: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _rounds(self) -> Loop:
        if BASELINE in self.arms:
            raise ValueError(f"arms.{BASELINE}: this is the name of the real-only runs; rename the arm")
        if "model" in self.server:
            raise ValueError("server.model: each round's models are the rounds'; remove it")
        for round_ in (0, self.rounds):
            self.study(round_)
        return self

    @property
    def studies(self) -> list[str]:
        """Names of the rounds, the first one first."""
        return [f"{self.name}_round_{round_}" for round_ in range(self.rounds + 1)]

    def study(self, round_: int) -> Study:
        """The round as a study. Raises ValueError naming the loop's key that makes it impossible."""
        shared = ("owner", "corpora", "shards", "budget_gpu_hours")
        parts = ("validation", "tokenizer", "gates", "training")
        written = {arm: self._written(arm, round_) for arm in self.arms} if round_ else {}
        content = {key: getattr(self, key) for key in shared} | {
            key: getattr(self, key).model_dump(exclude_unset=True) for key in parts
        }
        content |= self._real(round_) | {
            "name": self.studies[round_],
            "description": f"Round {round_} of loop {self.name}: {self.description}",
            "schedule": "manual",
            "guard": self._guard(),
            "servers": {
                server: self.server | {"model": model} for found in written.values() for _, server, model in found
            },
            "strategies": {
                name: {
                    "kind": "self",
                    "generations": self.generations,
                    "engine": {"kind": "vllm", "server": server},
                    "sampling": self.sampling.model_dump(exclude_unset=True) | self.arms[arm].sampling,
                    "review": self.review.model_dump(exclude_unset=True),
                }
                for arm, found in written.items()
                for name, server, _ in found
            },
            "layouts": {BASELINE: {"kind": "real", "seed": round_}},
            "mixes": {BASELINE: {"layout": BASELINE, "epochs": self.passes}},
            "reference": BASELINE,
            "path": self.path,
        }
        for arm, found in written.items():
            layout, mix = self._mixed(arm, round_, [name for name, _, _ in found])
            content["layouts"] |= layout
            content["mixes"][arm] = mix
        try:
            return Study.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            told = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"round {round_}: {where}: {told}" if where else f"round {round_}: {told}") from None

    def _real(self, round_: int) -> dict[str, Any]:
        """Which real documents are the round's."""
        if not self.continual:
            return {"real_share": self.real_share}
        dealt = {"number": round_, "of": self.rounds + 1, "share": self.real_share}
        return {"slice": self.continual.model_dump() | dealt}

    def _guard(self) -> dict[str, Any]:
        return self.guard.model_dump(exclude_unset=True) | {"experiment": self.experiment or self.guard.experiment}

    def _written(self, arm: str, round_: int) -> list[tuple[str, str, str]]:
        """(strategy, server, model) of all text the arm's mix of this round may hold, the newest first."""
        policy, found = self.arms[arm].policy, []
        if policy == "replace" and self.arms[arm].real == 1:
            return []
        for earlier in range(round_, 0, -1) if policy != "replace" else [round_]:
            writer = arm if earlier > 1 else BASELINE
            server = f"{arm}_{earlier - 1}" if earlier > 1 else BASELINE
            run = f"{writer}-s{self.training.seeds[0]}"
            found.append((f"{arm}_{earlier}", server, f"run:{self.studies[earlier - 1]}/{run}"))
        return found

    def _mixed(self, arm: str, round_: int, strategies: list[str]) -> tuple[dict, dict]:
        if not strategies:
            return {}, {"layout": BASELINE, "epochs": self.passes}
        kept = self.arms[arm].policy == "accumulate"
        first, *others = strategies
        layout = {"kind": "simple", "strategy": first, "also": others, "real": "last" if kept else "none"}
        mix = {"layout": arm, "epochs": self.passes, "match": {"mix": BASELINE, "by": "compute"}}
        share = least_real(self.arms[arm].policy, self.arms[arm].real, round_)
        if kept:
            return {arm: layout}, mix | {"f": 1}
        if not share:
            return {arm: layout}, mix | {"f": 1, "max_ratio": 1.0}
        of_all = share * self._real(round_).get("real_share", 1.0)
        return {arm: layout}, mix | {"f": 1 - share, "max_ratio": (1 - share) / share, "real_share": of_all}
