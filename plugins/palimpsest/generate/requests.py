"""What is asked of an engine, and what comes back."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Rendered:
    """A prompt with its slots filled: chat messages, or the plain text that a base model goes on from."""

    messages: tuple[tuple[str, str], ...] = ()
    """(role, content) each; empty for a plain text."""
    text: str = ""

    def canonical(self) -> str:
        """What goes into the request's key."""
        return json.dumps(self.messages, ensure_ascii=False) if self.messages else self.text


@dataclass(frozen=True)
class Request:
    """One planned generation: sample ``g`` of a strategy for a document, or for one chunk of a long one."""

    key: str
    url: str
    kind: str
    g: int
    document: str
    """The text to be written over: the whole document, or the chunk of it that this request is about."""
    seed: int
    """The sample's own: that of its group plus ``g``."""
    group: str = ""
    """Requests of one group differ only in their sample, and so in their seed: they can be asked for together."""
    part: int = 0
    """Which chunk of the document is rewritten."""
    attempt: int = 0
    """Above 0: asked for again because the one before was defective."""
    prompt: Rendered | None = None
    """None for engines that are not asked in words."""
    strategy: str = ""
    model: str = ""
    """The engine's model as it stands in the key."""


@dataclass(frozen=True)
class Outcome:
    """What an engine made of one request: a text, or the cause why there is none."""

    key: str
    text: str | None
    engine: str
    model: str
    seed: int
    finish_reason: str | None = None
    cause: str | None = None
    detail: str | None = None
    """What the engine said of a failure, for a person to read."""
    engine_seconds: float = 0.0
    """The request's share of the time its engine was busy."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """As the engine counts them; None where it does not."""
