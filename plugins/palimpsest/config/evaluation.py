"""What a study's models are judged by: documents held out of it, text from elsewhere, and questions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from palimpsest.config.base import Name, Share, Strict

OWN_SETS = {"iid", "short", "long"}


class HeldOutSet(Strict):
    """Text from elsewhere, never trained on: a loss of its own, out of the training distribution."""

    files: list[str] = Field(min_length=1)
    """JSON lines or Parquet (globs allowed), relative to the repository or absolute."""
    text: str = "text"
    """The column (key) that holds the text."""
    join: str | None = None
    """Rows with the same value in this column are one document, joined by blank lines in file order: whole books."""
    where: dict[str, str | int | float | bool] = {}
    """Only rows whose columns have these values."""
    max_documents: int | None = Field(default=None, ge=1)
    """Only the first so many documents."""


class Validation(Strict):
    """Which real documents are held out. They are excluded before anything is generated."""

    rule: Literal["urls", "hash_share", "sites"]
    urls_file: str | None = None
    share: Share | None = None
    sites: list[str] = []
    short_max_words: int = Field(default=200, gt=0)
    """Documents of at most so many words are the 'short' set."""
    long_min_words: int = Field(default=1_000, gt=0)
    """Documents of at least so many words are the 'long' set: the long-context loss unless 'judging.long_context' names
    another."""
    drop_shared_words: int | None = Field(default=None, ge=3)
    """Leave out training documents that share a run of so many words with a held-out one (quotations, parallel
    passages); by default they stay, and the gate stops the study if one does ('gates.validation_ngram')."""
    sets: dict[Name, HeldOutSet] = {}
    """Further sets by name, out of the training distribution."""

    @model_validator(mode="after")
    def _complete(self) -> Validation:
        needed = {"urls": "urls_file", "hash_share": "share", "sites": "sites"}[self.rule]
        if not getattr(self, needed):
            raise ValueError(f"rule '{self.rule}' needs the key '{needed}'")
        for name in sorted(OWN_SETS & self.sets.keys()):
            raise ValueError(f"sets.{name}: the study's own set is called so; choose another name")
        return self


class EvaluationSet(Strict):
    """Questions that models are judged by, of which no text to train on may hold one."""

    file: str
    """JSON lines, an item each."""
    question: str | None = None
    """The column of the question; default: the first of the common spellings (query, question, ctx, goal ...)."""
    choices: str | None = None
    """The column of the choices, if the answer is one of them; default as above."""
    answer: str | None = None
    """The column of the right answer: its text, its letter, or its place among the choices; default as above."""


class Decontamination(Strict):
    """What becomes of pages that recite an item of an evaluation set."""

    sets: dict[Name, EvaluationSet] = {}
    action: Literal["drop", "flag"] = "drop"
    """'flag': they stay documents, and stand in document_overlaps."""


class Task(Strict):
    """Multiple choice on a local file, scored by lm-evaluation-harness: accuracy with its standard error."""

    file: str
    """JSON lines of query, choices (list of texts) and answer (index of the right one)."""
    shots: int = Field(default=0, ge=0)
    """Solved examples before each question, taken from the file's other questions."""
    max_questions: int | None = Field(default=None, ge=1)


class Judging(Strict):
    """What is measured of the finished runs besides their held-out losses."""

    ensembles: list[Name] = []
    """Mixes whose seeds are also judged together: the loss of their averaged probabilities at K = 1 .. seeds."""
    contexts: list[Name] = []
    """Held-out sets (iid, short, long or one of validation.sets) of which every mix's runs are also read in overlapping
    windows: their loss by the number of context tokens, and what a layout gains at each."""
    long_context: Name = "long"
    """The held-out set whose loss is the long-context loss, and what a mix gains on it beyond what it gains on all
    ('iid') its long-context gain: 'long', or one of validation.sets (whole books). It trains nothing again."""
    tasks: dict[Name, Task] = {}
    """Downstream tasks, asked of every mix's runs once all training is done."""
    facts: int = Field(default=500, ge=0)
    """Questions about names and numbers of the real training text, and as many about held-out text, that every final
    run is asked: which of four of a kind stood there (`palimpsest.guard.cloze`). Takes seconds; 0: none."""
