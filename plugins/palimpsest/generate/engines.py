"""Engines: what turns planned requests into text. Each names its model, which is part of every request's key."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from palimpsest.config import ConfigError, Strategy, resolve
from palimpsest.generate.requests import Outcome, Request
from palimpsest.lake import digest_file


class Engine(Protocol):
    name: str
    model: str
    """Name and revision (or digest) of what generates: the same request on another model is another key."""

    def prompt(self, strategy: Strategy) -> str:
        """What the engine is asked, apart from the document: part of the key."""
        ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]: ...


class Recorded:
    """Replays generations from a JSON-lines file (url, strategy, g, text); a request without one fails by name."""

    name = "recorded"

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise ConfigError(f"engine 'recorded': no file {file}; correct 'file' in the study")
        self.file = file
        self.model = f"recorded:{digest_file(file)[:16]}"

    def prompt(self, strategy: Strategy) -> str:
        return f"replay {strategy.kind}"

    @cached_property
    def texts(self) -> dict[tuple[str, str, int], str]:
        found = {}
        for number, line in enumerate(self.file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                place = (row["url"], row["strategy"], row["g"])
                text = row["text"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self.file}: line {number}: not a recording ({error!r}); a line is a JSON object with "
                    "url, strategy, g, text"
                ) from None
            if place in found:
                raise ConfigError(f"{self.file}: line {number}: a second recording of {place}; keep one")
            found[place] = text
        return found

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            start = time.perf_counter()
            text = self.texts.get((request.url, request.kind, request.g))
            yield Outcome(
                key=request.key,
                text=text,
                engine=self.name,
                model=self.model,
                seed=request.seed,
                finish_reason=None if text is None else "stop",
                cause="not_recorded" if text is None else None,
                engine_seconds=time.perf_counter() - start,
            )


class Augment:
    """Classic augmentation, the control an LLM has to beat: sentence order, crop, word dropout (EDA, 1901.11196).

    Sample g applies operation ``g mod 3``; all chance comes from the request's key, so a text never changes.
    """

    name = "augment"
    model = "augment:1"

    def prompt(self, strategy: Strategy) -> str:
        return "augment"

    def generate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            start = time.perf_counter()
            chance = random.Random(int(hashlib.sha256(request.key.encode()).hexdigest()[:16], 16))
            operation = (shuffle_sentences, crop, drop_words)[request.g % 3]
            text = operation(request.document, chance)
            yield Outcome(
                key=request.key,
                text=text,
                engine=self.name,
                model=self.model,
                seed=request.seed,
                finish_reason="stop",
                engine_seconds=time.perf_counter() - start,
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


def open_engine(strategy: Strategy) -> Engine:
    """The engine a strategy names."""
    if strategy.engine.kind == "recorded":
        return Recorded(resolve(strategy.engine.file))
    return Augment()
