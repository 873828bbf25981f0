"""The typed corpus and study files: everything a run does follows from them.

``load_corpus`` and ``load_study`` turn YAML into models or raise `ConfigError`: one message naming file, key, what is
wrong and what is allowed. ``json_schema`` gives editors completion.
"""

from __future__ import annotations

import datetime as dt
import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from palimpsest.lake import REPOSITORY, LakeError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class ConfigError(LakeError):
    """A corpus or study file that cannot be run as written."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------- corpus


class Source(Strict):
    kind: Literal["warc"] = "warc"
    files: list[str] = Field(min_length=1)
    """Paths (globs allowed) relative to the repository, or absolute."""


class Limits(Strict):
    max_page_bytes: int = Field(default=10_000_000, gt=0)
    max_depth: int = Field(default=2_000, gt=0)
    """HTML nesting beyond this is quarantined, not parsed."""
    page_timeout_s: float = Field(default=20.0, gt=0)


class DocumentRules(Strict):
    """Thresholds of the named rules; shares are 0 to 1.

    Defaults are the references' own: Gopher (2112.11446, table A1), C4 (1910.10683), FineWeb (2406.17557, section 3.6).
    """

    language: str = Field(default="en", pattern=r"^[a-z]{2,3}$")
    min_language_score: float = Field(default=0.65, ge=0, le=1)
    min_words: int = Field(default=50, ge=0)
    max_words: int = Field(default=100_000, gt=0)
    max_symbol_ratio: float = Field(default=0.1, ge=0)
    """'#' and '...' per word."""
    min_alphabetic_words: float = Field(default=0.8, ge=0, le=1)
    min_mean_word_length: float = Field(default=3, ge=0)
    max_mean_word_length: float = Field(default=10, gt=0)
    max_bullet_lines: float = Field(default=0.9, ge=0, le=1)
    max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1)
    min_stop_words: int = Field(default=2, ge=0, le=8)
    max_duplicate_lines: float = Field(default=0.30, ge=0, le=1)
    max_duplicate_line_characters: float = Field(default=0.20, ge=0, le=1)
    max_duplicate_paragraphs: float = Field(default=0.30, ge=0, le=1)
    max_duplicate_paragraph_characters: float = Field(default=0.20, ge=0, le=1)
    max_top_2gram: float = Field(default=0.20, ge=0, le=1)
    max_top_3gram: float = Field(default=0.18, ge=0, le=1)
    max_top_4gram: float = Field(default=0.16, ge=0, le=1)
    max_duplicate_5grams: float = Field(default=0.15, ge=0, le=1)
    max_duplicate_6grams: float = Field(default=0.14, ge=0, le=1)
    max_duplicate_7grams: float = Field(default=0.13, ge=0, le=1)
    max_duplicate_8grams: float = Field(default=0.12, ge=0, le=1)
    max_duplicate_9grams: float = Field(default=0.11, ge=0, le=1)
    max_duplicate_10grams: float = Field(default=0.10, ge=0, le=1)
    max_lorem_ipsum: int = Field(default=0, ge=0)
    max_curly_brackets: float = Field(default=0.05, ge=0)
    """'{' per word. C4 drops a page for a single one; per word, a tutorial survives and a page of code does not."""
    max_policy_words: float = Field(default=0.25, ge=0, le=1)
    """Share of the words on lines C4 deletes (terms of use, privacy and cookie notices, 'enable Javascript')."""
    min_sentences: int = Field(default=3, ge=0)
    min_lines_punctuated: float = Field(default=0.12, ge=0, le=1)
    max_short_lines: float = Field(default=0.67, ge=0, le=1)
    max_newlines_per_word: float = Field(default=0.3, ge=0)
    site_line_pages: int = Field(default=10, ge=2)
    """Pages a site must have before lines common to its pages count as furniture and are cut."""
    site_line_share: Share = 0.5
    """A line on at least this share of its site's pages is furniture."""
    near_duplicate_jaccard: float = Field(default=0.75, gt=0, le=1)
    shingle_words: int = Field(default=5, ge=1)
    disabled: list[str] = []
    """Rule names to switch off for this corpus."""


class Corpus(Strict):
    name: Name
    description: str
    owner: str = "data-platform"
    source: Source
    schedule: str = "@daily"
    start: dt.date
    end: dt.date
    """Last interval, inclusive."""
    limits: Limits = Limits()
    documents: DocumentRules = DocumentRules()
    path: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _ordered(self) -> Corpus:
        if self.end < self.start:
            raise ValueError(f"end ({self.end}) lies before start ({self.start})")
        return self


# ---------------------------------------------------------------- study


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


class Engine(Strict):
    kind: Literal["recorded", "augment"]
    file: str | None = None
    """Recordings to replay (engine 'recorded'): JSON lines of url, strategy, g, text."""

    @model_validator(mode="after")
    def _complete(self) -> Engine:
        if self.kind == "recorded" and not self.file:
            raise ValueError("engine 'recorded' needs the key 'file'")
        if self.kind != "recorded" and self.file:
            raise ValueError(f"engine '{self.kind}' takes no 'file'")
        return self


class Strategy(Strict):
    kind: Literal["rephrase", "rationale", "augment"]
    generations: int = Field(ge=1, le=1024)
    """G: samples per document; for 'rationale' the number of split points."""
    engine: Engine
    seed: int = 0

    @model_validator(mode="after")
    def _matching(self) -> Strategy:
        if (self.kind == "augment") != (self.engine.kind == "augment"):
            raise ValueError("kind 'augment' and engine 'augment' go together")
        return self


class Layout(Strict):
    kind: Literal["real", "simple", "stitched", "stretched"]
    strategy: str | None = None
    """The strategy whose generations are laid out; none for 'real'."""
    generations: int | None = Field(default=None, ge=1)
    """Use only the first so many (prefix-nested G); default all."""
    real: Literal["last", "first", "none"] = "last"
    """Where the real document stands in a stitched megadoc; for 'simple' only whether it takes part."""
    seed: int = 0

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
    seeds: list[int] = Field(default=[0], min_length=1)
    """Paired across mixes: seed s means the same initial weights and window order everywhere."""
    reference_shares: list[Share] = []
    """Shares of the real documents on which the real-only recipe is trained too: the scaling law is read off these."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = Field(default=1, ge=1)
    """CPU threads per run (runs go in parallel)."""
    evaluations: int = Field(default=8, ge=1)
    """Points on the validation curve."""


class Study(Strict):
    name: Name
    description: str
    owner: str = "pretraining"
    corpora: list[str] = Field(min_length=1)
    schedule: Literal["on_corpora", "manual"] | str = "on_corpora"
    """'on_corpora' (when a corpus publishes), 'manual', or a cron expression."""
    validation: Validation
    tokenizer: Tokenizer = Tokenizer()
    shards: int = Field(default=2, ge=1, le=1000)
    strategies: dict[Name, Strategy] = {}
    layouts: dict[Name, Layout]
    mixes: dict[Name, Mix]
    reference: str
    """The real-only mix every other is compared with."""
    gates: Gates = Gates()
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
        for name, layout in self.layouts.items():
            if layout.strategy is not None:
                _known(f"layouts.{name}.strategy", layout.strategy, self.strategies)
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
            _known(f"mixes.{name}.layout", mix.layout, self.layouts)
            if (self.layouts[mix.layout].kind == "real") != (mix.f == 0):
                raise ValueError(f"mixes.{name}: f is 0 for the 'real' layout and above 0 for every other")
            if mix.max_tokens and not mix.f:
                raise ValueError(f"mixes.{name}: max_tokens caps the synthetic stream, and this mix has none")
        _known("reference", self.reference, self.mixes)
        if self.mixes[self.reference].f != 0:
            raise ValueError(f"reference: mix '{self.reference}' is not real-only")
        return self

    @property
    def real_layout(self) -> str:
        return next(name for name, layout in self.layouts.items() if layout.kind == "real")


def _known(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: '{value}' is unknown{_suggest(value, allowed)}")


def _suggest(value: str, allowed: Iterable[str]) -> str:
    allowed = sorted(allowed)
    close = difflib.get_close_matches(value, allowed, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{hint} (allowed: {', '.join(allowed) or 'none defined'})"


# ---------------------------------------------------------------- files


def corpora_dir() -> Path:
    return Path(os.environ.get("PALIMPSEST_CORPORA") or REPOSITORY / "dags" / "corpora")


def studies_dir() -> Path:
    return Path(os.environ.get("PALIMPSEST_STUDIES") or REPOSITORY / "dags" / "studies")


def load_corpus(file: str | Path) -> Corpus:
    return _load(file, Corpus, corpora_dir())


def load_study(file: str | Path) -> Study:
    study = _load(file, Study, studies_dir())
    known = {path.stem for path in corpora_dir().glob("*.yaml")}
    for corpus in study.corpora:
        if corpus not in known:
            raise ConfigError(
                f"{study.path}: corpora: '{corpus}' is unknown{_suggest(corpus, known)}; "
                f"add {corpora_dir() / (corpus + '.yaml')} or correct the name"
            )
    return study


def resolve(file: str) -> Path:
    """A path from a corpus or study file: absolute, or relative to the repository."""
    return Path(file) if Path(file).is_absolute() else REPOSITORY / file


def _load(file: str | Path, model: type[BaseModel], folder: Path):
    path = Path(file)
    if not path.suffix:
        path = folder / f"{file}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = [p.stem for p in folder.glob("*.yaml")]
        raise ConfigError(f"{path}: no such file{_suggest(path.stem, names)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(content).__name__}")
    try:
        loaded = model.model_validate({**content, "path": path})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(e, model)}" for e in error.errors())) from None
    if loaded.name != path.stem:
        raise ConfigError(f"{path}: name is '{loaded.name}' but the file is called '{path.stem}'; make them the same")
    return loaded


def _explain(error: dict, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, error["loc"][:-1])
        return f"{key}: unknown key{_suggest(str(error['loc'][-1]), allowed)}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if error["type"] in ("missing", "value_error") else f" (given: {error['input']!r})"
    return f"{key}: {message}{given}" if error["loc"] else message + given


def _fields_at(model: type[BaseModel], loc: tuple) -> list[str]:
    """The keys allowed at a location of the file, found by walking the generated schema."""
    schema = model.model_json_schema()
    node = schema
    for part in loc:
        node = _deref(node, schema)
        named = node.get("properties", {}).get(part)
        any_name = [*node.get("patternProperties", {}).values(), node.get("additionalProperties"), node.get("items")]
        node = named or next((n for n in any_name if isinstance(n, dict)), {})
    return [name for name in _deref(node, schema).get("properties", {}) if name != "path"]


def _deref(node: dict, schema: dict) -> dict:
    options = node.get("anyOf") or node.get("allOf") or [node]
    node = next((o for o in options if "$ref" in o), options[0])
    return schema["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node


def json_schema(kind: Literal["corpus", "study"]) -> dict:
    """JSON Schema of a corpus or study file, for editors (``# yaml-language-server: $schema=...``)."""
    schema = (Corpus if kind == "corpus" else Study).model_json_schema()
    schema["properties"].pop("path")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
