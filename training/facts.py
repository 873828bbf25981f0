"""A factual probe: of the facts of a corpus (`palimpsest.guard.cloze`), how many a model tells from other ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer

from palimpsest import tokenizer as tok
from palimpsest.guard.cloze import Question
from training.evaluate import batched
from training.model import Decoder
from training.targets import told

LEAST = 50
"""Questions; of fewer the standard error is 7 points and more."""


def answer(
    model: Decoder, tokenizer: Tokenizer, questions: Sequence[Question], dtype: torch.dtype
) -> list[list[float]]:
    """Per question, the log-likelihood of each choice behind the text before it, in nats.

    A text begins with the boundary, as in training; of one that does not fit the context the beginning is cut.
    """
    model.eval()
    boundary = tokenizer.token_to_id(tok.BOUNDARY)
    before = tokenizer.encode_batch([question.before for question in questions], add_special_tokens=False)
    choices = [f" {choice}" for question in questions for choice in question.choices]
    behind = iter(tokenizer.encode_batch(choices, add_special_tokens=False))
    windows, starts, count = [], [], 0
    for question, prefix in zip(questions, before, strict=True):
        for _ in question.choices:
            ids = next(behind).ids[: model.context - 1]
            text = np.array([boundary, *prefix.ids, *ids])[-model.context - 1 :]
            place = np.full(len(text) - 1, -1)
            place[len(place) - len(ids) :] = np.arange(count, count + len(ids))
            windows.append((text[:-1], text[1:], place))
            starts.append(count)
            count += len(ids)
    nats = np.zeros(count)
    for batch in batched(windows):
        found = told(model, batch, dtype)
        nats[found.place] = found.nats
    sums = iter((-np.add.reduceat(nats, starts)).tolist() if len(nats) else [])
    return [[next(sums) for _ in question.choices] for question in questions]


def score(right: Sequence[bool]) -> dict[str, float | int | str | None]:
    """questions, share and its standard error; ``why`` there is no share where the questions are too few."""
    if len(right) < LEAST:
        why = f"{len(right)} questions could be made of the text; {LEAST} are needed"
        return {"questions": len(right), "share": None, "error": None, "why": why}
    share = sum(right) / len(right)
    return {"questions": len(right), "share": share, "error": math.sqrt(share * (1 - share) / len(right)), "why": ""}
