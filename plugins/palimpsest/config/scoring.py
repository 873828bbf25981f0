"""Models whose scores of a page become columns of it."""

from __future__ import annotations

from pydantic import Field

from palimpsest.config.base import Name, Strict

COLUMN = "model_{}"
"""Of the pages, by a model's name."""


class ScoreModel(Strict):
    """A fastText classifier in a file of its own (``.bin`` or ``.ftz``), held to its digest."""

    file: str
    """Relative to the repository, absolute, or in the data folder ($PALIMPSEST_DATA/...)."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the file: another model's scores mean something else."""
    label: str = Field(min_length=1)
    """Whose probability is the score, as the model spells it, like __label__hq."""


class Scoring(Strict):
    models: dict[Name, ScoreModel] = {}
    """By name: each adds a column ``model_<name>`` to the pages. Nothing is dropped by it."""
