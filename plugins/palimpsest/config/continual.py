"""New real text in every round: which documents are a round's own, and which it sees again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from palimpsest.config.base import Share, Strict

Replay = Annotated[float, Field(ge=0, lt=1)]


class Continual(Strict):
    """How a loop deals its real documents out to its rounds, in parts as many as rounds and of equal counts."""

    by: Literal["hash", "interval"] = "hash"
    """The documents' order before they are cut in parts. 'hash': of their ids, so that all parts are alike.
    'interval': of their day, the oldest first, as a corpus grows; what changes with time then changes with the round.
    """
    replay: Replay = 0.0
    """Share of a round's real documents that are of earlier rounds (all of them, where there are fewer)."""


class Slice(Continual):
    """One round's part of a study's training documents."""

    number: int = Field(ge=0)
    of: int = Field(ge=2)
    share: Share = 1.0
    """Of the training documents, those that the rounds have among them; no other is used."""

    @model_validator(mode="after")
    def _within(self) -> Slice:
        if self.number >= self.of:
            raise ValueError(f"number {self.number} of {self.of} parts: they are numbered from 0 to {self.of - 1}")
        return self
