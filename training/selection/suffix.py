"""How much likelier a rationale makes the real text after it (the weight that BoLT gives a latent thought).

Of a rationale z between the beginning x of a document and what follows, y: log p(y | x, z) - log p(y | x), in nats,
over the first tokens of y, under a model that this platform trained (Ruan et al. 2025, 2503.18866, who draw thoughts by
such weights; here the best of each place is kept). z stands between its marks, as it does in a megadoc. What the
context of the model has no room for is left out from the front, where it is farthest from y.

One model reads all: a text that it has by heart is likely anyway, and then no rationale helps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.lake import LakeError, Published
from palimpsest.mixes import MARKS
from training import export
from training.evaluate import HeldOut, batched, token_losses
from training.loop import choose_device
from training.model import Decoder
from training.selection.found import Scores
from training.selection.pool import Pool, Text

SLICES = """
    select strategy, document_id, list(text order by slice) from read_parquet(?)
    group by all order by strategy, document_id
"""


@dataclass(frozen=True)
class Case:
    """Token ids of what is read, and of what is to be predicted after it."""

    before: np.ndarray
    after: np.ndarray


class Reader:
    """Log-probabilities under a model, fp32; ``tokens`` counts what it has read."""

    def __init__(self, model: Decoder, boundary: int) -> None:
        self.model, self.boundary, self.tokens = model, boundary, 0

    def __call__(self, cases: Sequence[Case]) -> np.ndarray:
        """(cases,) log p(after | before), in nats."""
        windows, owners = [], np.repeat(np.arange(len(cases)), [len(case.after) for case in cases])
        ends = np.cumsum([len(case.after) for case in cases])
        for case, end in zip(cases, ends, strict=True):
            whole = np.concatenate([[self.boundary], case.before, case.after])[-(self.model.context + 1) :]
            place = np.full(len(whole) - 1, -1)
            place[len(place) - len(case.after) :] = np.arange(end - len(case.after), end)
            windows.append((whole[:-1], whole[1:], place))
            self.tokens += len(place)
        every = np.ones(len(owners), np.int64)
        nats = token_losses(self.model, HeldOut(batched(windows), {}, every, every))
        return -np.bincount(owners, weights=nats, minlength=len(cases))


def score(pool: Pool, study: Study, made: Sequence[Published]) -> Scores:
    """Score: what a rationale gains, in nats; 0 for all other texts. Weight: 1.

    ``made``: the plan, with the slices of documents, and the run that reads. Features: both log-probabilities and the
    tokens predicted. Figures: of the rationales, and of the best at each place. Raises ValueError where there is no
    rationale, and for a model of too short a context.
    """
    plan, run = made
    asked, tokenizer = study.selection.suffix, tok.load(run.file("model/tokenizer.json"))
    torch.set_num_threads(study.training.threads)
    model = export.load(run.path / "model").to(choose_device())
    if asked.tokens >= model.context:
        raise ValueError(
            f"selection.suffix.tokens is {asked.tokens}, and {asked.model} has a context of {model.context} tokens, "
            "which has to hold what precedes them, too; lower it"
        )
    reader = Reader(model, tokenizer.token_to_id(tok.BOUNDARY))
    features = {name: np.full(len(pool), np.nan) for name in ("log_probability", "without", "suffix_tokens")}
    gain, best = np.zeros(len(pool)), []
    for texts, places, slices in _documents(pool, study, plan.file("slices.parquet")):
        parts, marked = (_encoded(tokenizer, own) for own in (slices, [_marked(text) for text in texts]))
        every = sorted(set(places))
        bare = {
            at: Case(np.concatenate(parts[: at + 1]), np.concatenate(parts[at + 1 :])[: asked.tokens]) for at in every
        }
        pairs = [(bare[at], own) for at, own in zip(places, marked, strict=True)]
        cases = [Case(np.concatenate([case.before, own]), case.after) for case, own in pairs]
        found = reader([*bare.values(), *cases])
        without = dict(zip(every, found, strict=False))
        gained: dict[int, float] = {}
        for text, at, value in zip(texts, places, found[len(every) :], strict=True):
            told = (value, without[at], len(bare[at].after))
            for column, own in zip(features.values(), told, strict=True):
                column[text.place] = own
            gain[text.place] = value - without[at]
            gained[at] = max(gained.get(at, -np.inf), gain[text.place])
        best += gained.values()
    read = np.isfinite(features["log_probability"])
    if not read.any():
        raise ValueError("the study has no rationale; select by another score, or give it a strategy that writes them")
    figures = {
        "share of rationales that help": float((gain[read] > 0).mean()),
        "mean gain of a rationale": float(gain[read].mean()),
        "mean gain of the best of a place": float(np.mean(best)),
    }
    flops = model.flops_per_token() / 3 * reader.tokens
    return Scores(gain, np.ones(len(pool)), features, figures, flops=flops)


def _marked(text: Text) -> str:
    return f"{MARKS['think_open']}{text.text}{MARKS['think_close']}"


def _documents(pool: Pool, study: Study, file: Path) -> Iterator[tuple[list[Text], list[int], list[str]]]:
    """Of each document of a rationale strategy its texts, their places between slices, and the slices."""
    import duckdb

    cut = duckdb.connect()
    cut.execute(SLICES, [str(file)])
    strategies, documents, samples = (pool.rows[name].to_pylist() for name in ("strategy", "document_id", "g"))
    synthetic = (text for texts in pool.batches("synthetic") for text in texts)
    slices = cut.fetchone()
    for own, texts in groupby(synthetic, lambda text: (strategies[text.place], documents[text.place])):
        strategy = study.strategies[own[0]]
        if strategy.kind != "rationale":
            continue
        while slices and slices[:2] < own:  # both are in this order
            slices = cut.fetchone()
        if not slices or slices[:2] != own:
            raise LakeError(f"{file}: no slices of document {own[1]} for strategy {own[0]}; plan and generate again")
        mine = list(texts)
        yield mine, [samples[text.place] % strategy.generations for text in mine], slices[2]


def _encoded(tokenizer: tok.Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.asarray(one.ids, np.int64) for one in found]
