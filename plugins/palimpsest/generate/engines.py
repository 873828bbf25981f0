"""Engines: what turns planned requests into text. Each names its model, which is part of every request's key."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from palimpsest.config import ConfigError, SampleColumns, Strategy, Study, remedy, resolve
from palimpsest.config import Engine as Replay
from palimpsest.config.table import template_columns
from palimpsest.generate.meter import Meter
from palimpsest.generate.requests import Outcome, Request
from palimpsest.ingest.records import without_user
from palimpsest.lake import Lake, digest_file, digest_json
from palimpsest.table import fill, pieces, read_table


@dataclass(frozen=True)
class EndpointStats:
    url: str
    up: bool
    in_flight: int = 0
    """Samples."""
    window: int = 0
    """Samples that may be in flight."""
    why: str = ""
    """What keeps it down."""


@dataclass(frozen=True)
class EngineStats:
    """What an engine does now, and has done since it was opened."""

    in_flight: int = 0
    """Samples."""
    window: int = 0
    """Samples that may be in flight, at all servers that are up."""
    retries: int = 0
    output_tokens: int = 0
    endpoints: tuple[EndpointStats, ...] = ()


class Engine(Protocol):
    name: str
    model: str
    """Name and revision (or digest) of what generates: the same request on another model is another key."""
    meter: Meter
    """Where its seconds went."""

    def prompt(self, strategy: Strategy) -> str:
        """What the engine is asked, apart from the document: part of the key."""
        ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Every request's outcome, in any order; a failure that lies in the request is one, weather is raised."""
        ...

    def stats(self) -> EngineStats: ...


class Recorded:
    """Replays generations from a file; a request without one fails by name.

    The file has JSON lines of url, strategy, g, text; with ``columns`` it is a table of somebody else's, one row per
    text of a document, and the order of its samples is the study's to say.
    """

    name = "recorded"

    def __init__(self, engine: Replay) -> None:
        file = resolve(engine.file)
        if not file.is_file():
            raise ConfigError(f"engine 'recorded': no file {file}; {remedy(engine.file)}")
        self.file, self.columns = file, engine.columns
        self.meter = Meter()
        content = digest_file(file)
        if self.columns:  # another order makes other generations of the same file
            content = digest_json({"file": content, "columns": self.columns.model_dump()})
        self.model = f"recorded:{content[:16]}"

    def prompt(self, strategy: Strategy) -> str:
        return f"replay {strategy.kind}"

    def stats(self) -> EngineStats:
        return EngineStats()

    @cached_property
    def texts(self) -> dict[tuple[str, str, int], str]:
        """By url, kind of strategy (of a table: '', whatever the kind) and sample."""
        return self._listed() if self.columns is None else self._tabled(self.columns)

    def _tabled(self, columns: SampleColumns) -> dict[tuple[str, str, int], str]:
        found = {}
        samples = {value: g for g, value in enumerate(columns.order)}
        named = [*template_columns(columns.url), columns.text, columns.sample]
        for number, _, row in read_table(self.file, named):
            g = samples.get(row.get(columns.sample))
            if g is None:
                continue
            for piece in pieces(row, columns, str(self.file)):
                try:
                    url, text = fill(columns.url, piece, number), piece.get(columns.text)
                except UnicodeEncodeError:  # no document has such an address
                    continue
                if url is None or not isinstance(text, str):
                    continue
                url = without_user(url)  # as the page has it
                if (url, "", g) in found:
                    raise ConfigError(f"{self.file}: row {number}: a second '{columns.order[g]}' of {url}; keep one")
                found[url, "", g] = text
        return found

    def _listed(self) -> dict[tuple[str, str, int], str]:
        found = {}
        for number, line in enumerate(self.file.read_bytes().split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                place = (row["url"], row["strategy"], row["g"])
                text = row["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self.file}: line {number}: not a recording ({error!r}); a line is a JSON object with "
                    "url, strategy, g, text"
                ) from None
            if place in found:
                raise ConfigError(f"{self.file}: line {number}: a second recording of {place}; keep one")
            found[place] = text
        return found

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        self.meter.begin()
        texts = self.texts
        for request in requests:
            self.meter.started(request.key, [request.key])
            text = texts.get((request.url, "" if self.columns else request.kind, request.g))
            seconds = self.meter.ended(request.key, "failed" if text is None else "useful")
            yield Outcome(
                key=request.key,
                text=text,
                engine=self.name,
                model=self.model,
                seed=request.seed,
                finish_reason=None if text is None else "stop",
                cause="not_recorded" if text is None else None,
                engine_seconds=seconds,
            )


class Augment:
    """Classic augmentation, the control an LLM has to beat: sentence order, crop, word dropout (EDA, 1901.11196).

    Sample g applies operation ``g mod 3``; all chance comes from the request's key, so a text never changes.
    """

    name = "augment"
    model = "augment:1"

    def __init__(self) -> None:
        self.meter = Meter()

    def prompt(self, strategy: Strategy) -> str:
        return "augment"

    def stats(self) -> EngineStats:
        return EngineStats()

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        self.meter.begin()
        for request in requests:
            self.meter.started(request.key, [request.key])
            chance = random.Random(int(hashlib.sha256(request.key.encode()).hexdigest()[:16], 16))
            operation = (shuffle_sentences, crop, drop_words)[request.g % 3]
            text = operation(request.document, chance)
            seconds = self.meter.ended(request.key, "useful")
            yield Outcome(
                key=request.key,
                text=text,
                engine=self.name,
                model=self.model,
                seed=request.seed,
                finish_reason="stop",
                engine_seconds=seconds,
            )


def sentences(text: str) -> list[str]:
    """Sentences and line breaks' pieces; joined with a blank they read on."""
    return [s for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s.strip()]


def shuffle_sentences(text: str, chance: random.Random) -> str:
    """The same sentences in another order."""
    parts = sentences(text)
    chance.shuffle(parts)
    return " ".join(parts)


def crop(text: str, chance: random.Random) -> str:
    """A contiguous run of 60 to 90 % of the sentences."""
    parts = sentences(text)
    size = max(1, round(len(parts) * chance.uniform(0.6, 0.9)))
    start = chance.randint(0, len(parts) - size)
    return " ".join(parts[start : start + size])


def drop_words(text: str, chance: random.Random) -> str:
    """Each word left out with probability 0.1; at least one stays."""
    words = text.split()
    kept = [word for word in words if chance.random() >= 0.1]
    return " ".join(kept or words[:1])


def open_engine(study: Study, strategy_name: str, lake: Lake, began: float | None = None) -> Engine:
    """The engine a strategy names. Nothing is started by it: `Engine.generate` does, when there is something to do.

    ``began``: see `palimpsest.serve.ensure`.
    """
    strategy = study.strategies[strategy_name]
    if strategy.engine.kind == "vllm":
        from palimpsest.generate.models import model_source
        from palimpsest.generate.vllm import Vllm

        return Vllm(study, strategy_name, lake, model_source(study.servers[strategy.engine.server], lake), began)
    return Recorded(strategy.engine) if strategy.engine.kind == "recorded" else Augment()
