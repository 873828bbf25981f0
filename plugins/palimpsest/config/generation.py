"""What a study generates: the models it asks, how they sample, and what becomes of a defective generation."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from palimpsest.config.base import COMMIT, Seed, Strict
from palimpsest.config.table import SampleColumns

Action = Literal["keep", "drop", "again"]
"""What becomes of a defective generation: kept and marked, dropped with its reason, or asked for once more."""
Repair = Literal["keep", "drop", "again", "strip"]
"""As `Action`; 'strip' keeps the generation without what should not be there."""
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
RUN = re.compile(r"run:([a-z][a-z0-9_]*)/([\w.-]+)")
OURS = {"model", "revision", "tokenizer", "host", "port", "served-model-name", "max-model-len", "generation-config"}
SECRETS = {"api-key", "hf-token"}
REPLICAS = {"data-parallel-size", "data-parallel-size-local"}


class Server(Strict):
    """A model behind vLLM's HTTP interface: served by the Dag, one server per GPU, or running already."""

    model: str
    """Hub id with 'revision', a folder (absolute, or beginning with ./ and relative to the repository), or
    'run:<study>/<run>' for a model this platform trained."""
    revision: str | None = None
    """Commit of the hub model, 40 digits: part of every request's key, and a branch or tag may move."""
    tokenizer: str | None = None
    """tokenizer.json, or a folder with one, that plans count with; default: the model's own."""
    gpus: int = Field(default=1, ge=0)
    """GPUs to serve on; 0 serves on the CPU."""
    context: int = Field(default=8192, ge=64)
    """Tokens of prompt and answer together (vLLM's --max-model-len)."""
    arguments: dict[str, bool | int | float | str] = {}
    """Further arguments of ``vllm serve``, without the dashes in front: {gpu-memory-utilization: 0.92}."""
    endpoints: list[str] = []
    """Base URLs of servers that run already (http://host:8000); nothing is started then."""
    connection: str | None = None
    """Airflow connection whose password is the servers' API key; elsewhere PALIMPSEST_VLLM_API_KEY."""
    ready_within_s: float = Field(default=1800, gt=0)
    """A server that does not answer by then is reported with the end of its log."""
    request_timeout_s: float = Field(default=1800, gt=0)
    """One request that takes longer is given up, tried again, and then set aside."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Output tokens per second and GPU that the plan's estimate reckons with until some have been measured."""

    @field_validator("endpoints")
    @classmethod
    def _urls(cls, value: list[str]) -> list[str]:
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"'{url}' is no base URL of a server; write it like http://host:8000")
            if parts.username or parts.password:
                raise ValueError(
                    f"'{parts.hostname}': secrets do not belong in a study file; name an Airflow 'connection', or "
                    "set PALIMPSEST_VLLM_API_KEY"
                )
        return [url.rstrip("/").removesuffix("/v1") for url in value]

    @field_validator("arguments")
    @classmethod
    def _ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        named = {key.lstrip("-").replace("_", "-"): setting for key, setting in value.items()}
        for key in sorted(OURS & named.keys()):
            raise ValueError(f"'{key}' is set by the platform; remove it (the context is the key 'context')")
        for key in sorted(SECRETS & named.keys()):
            raise ValueError(f"'{key}': secrets do not belong in a study file; servers take them from the environment")
        for key in sorted(REPLICAS & named.keys()):
            raise ValueError(
                f"'{key}' spreads one document's samples over replicas that do not share its prefix; set 'gpus': "
                "one server is started per GPU, and a document always goes to the same one"
            )
        return named

    @model_validator(mode="after")
    def _pinned(self) -> Server:
        if self.model.startswith("run:") and not RUN.fullmatch(self.model):
            raise ValueError(f"model '{self.model}' names no run; write it like run:demo/real-s0")
        if self.is_hub_model and not HUB_ID.fullmatch(self.model):
            raise ValueError(
                f"model '{self.model}' is no hub id like 'org/name'; a folder begins with / or ./, a run with run:"
            )
        if self.is_hub_model and not COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                f"model '{self.model}' needs the key 'revision': its commit (40 hexadecimal digits), because a branch "
                "or tag may move and the same request must mean the same"
            )
        if not self.is_hub_model and self.revision:
            raise ValueError("'revision' belongs to a hub model; a folder or run is known by its content")
        if self.endpoints and (self.arguments or "gpus" in self.model_fields_set):  # also where it says the default
            raise ValueError("'endpoints' run already: 'gpus' and 'arguments' are not the study's to set")
        return self

    @property
    def is_run(self) -> bool:
        return self.model.startswith("run:")

    @property
    def is_hub_model(self) -> bool:
        """Neither a folder (absolute, or beginning with a dot) nor a run of this platform."""
        return not (self.is_run or self.model.startswith(("/", "./", "../")))


class Sampling(Strict):
    """How the model samples; the paper rephrases at temperature 1 with up to 1,024 new tokens."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0: off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=1024, ge=1)
    stop: list[Annotated[str, Field(min_length=1)]] = []

    def canonical(self) -> dict[str, object]:
        """What goes into a request's key. Settings added later stay out while they are off, so old keys hold."""
        always = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "max_tokens")}
        off = {"min_p": 0.0, "repetition_penalty": 1.0, "stop": []}
        return always | {name: getattr(self, name) for name in off if getattr(self, name) != off[name]}


class Review(Strict):
    """What becomes of a generation with each defect; the decision and its reason are columns, the text stays."""

    refusal: Action = "again"
    preamble: Repair = "strip"
    """'Here is the rewritten article:' and the like before the text, 'I hope this helps' after it, tags around it."""
    markdown: Repair = "strip"
    """The whole text inside a code fence or quotation marks."""
    prompt_echo: Action = "again"
    near_copy: Action = "keep"
    """Shares at least `Gates.near_copy_overlap` of its word 5-grams with its source."""
    loop: Action = "again"
    truncated: Action = "keep"
    """Cut off at max_tokens."""
    language: Action = "again"
    """In another language than its source."""
    benchmark: Action = "drop"
    """Recites a text of ``benchmarks``."""
    pii: Action = "drop"
    """Holds personal data that its source does not."""
    attempts: int = Field(default=2, ge=0, le=16)
    """How many more times a generation is asked for ('again'); one still defective then is dropped.

    So is at once what cannot come out otherwise: a recording, and what is sampled at temperature 0.
    """
    benchmarks: list[str] = []
    """JSON-lines files of evaluation questions and answers."""


class Engine(Strict):
    kind: Literal["recorded", "augment", "vllm"]
    file: str | None = None
    """Recordings to replay (engine 'recorded'): JSON lines of url, strategy, g, text, or any table with 'columns'."""
    columns: SampleColumns | None = None
    """Where the recordings stand in a table (JSON lines or Parquet) that was not written by this platform."""
    server: str | None = None
    """Key under ``servers`` (engine 'vllm')."""

    @model_validator(mode="after")
    def _complete(self) -> Engine:
        needed = {"recorded": "file", "vllm": "server"}.get(self.kind)
        for key in ("file", "server"):
            if key == needed and not getattr(self, key):
                raise ValueError(f"engine '{self.kind}' needs the key '{key}'")
            if key != needed and getattr(self, key):
                raise ValueError(f"engine '{self.kind}' takes no '{key}'")
        if self.columns and self.kind != "recorded":
            raise ValueError(f"engine '{self.kind}' takes no 'columns'")
        return self


class Strategy(Strict):
    kind: Literal["rephrase", "rationale", "continuation", "self", "augment"]
    generations: int = Field(ge=1, le=1024)
    """G: samples per document; for 'rationale' the number of split points. The first of more are those of fewer."""
    candidates: int = Field(default=1, ge=1, le=64, exclude_if=lambda found: found == 1)
    """For 'rationale': samples at each split point. A layout lays out the first, or what it selects by a score
    ('select: {by: suffix, each: place}'); more leave those there were as they are. Sample g is of place g mod G."""
    engine: Engine
    seed: Seed = 0
    prompt: str | None = None
    """A shipped prompt ('rephrase/faq') or a YAML file of your own (engine 'vllm'); default: rephrase/encyclopedic,
    rationale/latent_thought, continuation/plain, self/unconditional."""
    sampling: Sampling = Sampling()
    chunk_tokens: int | None = Field(default=None, ge=32)
    """Documents of more tokens are rewritten in chunks; default: what the server's context leaves room for."""
    prefix_share: float = Field(default=0.5, gt=0, lt=1)
    """How much of the document a 'continuation' goes on from."""
    review: Review = Review()

    @model_validator(mode="after")
    def _matching(self) -> Strategy:
        if (self.kind == "augment") != (self.engine.kind == "augment"):
            raise ValueError("kind 'augment' and engine 'augment' go together")
        if self.kind == "self" and self.engine.kind == "recorded":
            raise ValueError("kind 'self' samples from a model: its engine is 'vllm'")
        if self.engine.kind != "vllm":
            for key in ("prompt", "sampling", "chunk_tokens"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"engine '{self.engine.kind}' takes no '{key}'")
        if self.candidates > 1 and self.kind != "rationale":
            raise ValueError(f"'candidates' are for kind 'rationale', not '{self.kind}'; give it more 'generations'")
        if self.engine.columns and len(self.engine.columns.order) < self.samples:
            raise ValueError(
                f"generations{' times candidates' * (self.candidates > 1)} is {self.samples}, but engine.columns.order "
                f"names only {len(self.engine.columns.order)} samples"
            )
        if self.chunk_tokens and self.kind != "rephrase":
            raise ValueError("'chunk_tokens' is for kind 'rephrase'; the others see the document around one place")
        if self.prefix_share != type(self).model_fields["prefix_share"].default and self.kind != "continuation":
            raise ValueError(f"'prefix_share' is for kind 'continuation', not '{self.kind}'")
        key = "candidates" if self.kind == "rationale" else "generations"
        same = getattr(self, key) if self.engine.kind == "vllm" and self.sampling.temperature == 0 else 1
        if same > 1:
            raise ValueError(
                f"sampling.temperature 0 makes {same} samples that are all the same; raise it, or set '{key}' to 1"
            )
        return self

    @property
    def samples(self) -> int:
        """Texts per document, or for 'rationale' of one that has every split point."""
        return self.generations * self.candidates

    @property
    def prompt_file(self) -> str | None:
        """The user's own prompt file; None for a shipped prompt, which is named without an ending."""
        return self.prompt if self.prompt and self.prompt.endswith((".yaml", ".yml")) else None
