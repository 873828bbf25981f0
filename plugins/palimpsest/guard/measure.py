"""One pass over a synthetic stream beside its real source: everything that gates G8 to G10 judge.

real = Reference(train_texts)
found = watch(synthetic_texts, real, held_out=validation_texts)
verdicts = judge(found, DEFAULTS, "synthetic rephrases of domain wikinews", depth=1)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from palimpsest.guard.copying import Known
from palimpsest.guard.diversity import BLOCK, LEAST, Blocks, Null, split_nulls
from palimpsest.guard.duplicates import Duplicates, Quotes, Real
from palimpsest.guard.tail import Counts, Source, Tail, tail
from palimpsest.guard.tokens import Vocabulary

HELD = 3_000_000
"""Tokens of real text kept for splits: a random sample of documents where there are more."""
AT_A_TIME = 256
"""Documents."""


class Reference:
    """Real text that synthetic text is judged by, read once. Keeps counts, a sample of documents, and shingles."""

    def __init__(self, texts: Iterable[str], *, vocabulary: Vocabulary | None = None, seed: int = 0) -> None:
        self.vocabulary = vocabulary or Vocabulary()
        self.real = Real()
        counts, sample = Counts(spread=True), Sample(HELD, seed)
        for some in grouped(texts):
            encoded = [self.vocabulary.encode(text) for text in some]
            counts.add(encoded)
            self.real.add(some)
            for text, document in zip(some, encoded, strict=True):
                sample.add(text, document)
        self.source: Source = counts.source()
        self.texts, self.documents = sample.kept()
        self._nulls: dict[int, dict[str, Null]] = {}

    @property
    def block(self) -> int:
        """The largest block that real text can be split for."""
        return min(BLOCK, sum(len(document) for document in self.documents) // 2)

    @cached_property
    def known(self) -> Known:
        """The n-grams of the kept sample, for novelty."""
        return Known(self.documents)

    def nulls(self, tokens: int) -> dict[str, Null]:
        """Of each diversity figure, at blocks of so many tokens. Raises ValueError for too little real text."""
        if tokens not in self._nulls:
            self._nulls[tokens] = split_nulls(self.texts, self.documents, tokens)
        return self._nulls[tokens]


@dataclass(frozen=True)
class Measured:
    """What one pass found."""

    source: Source
    tail: Tail
    blocks: Blocks
    nulls: dict[str, Null]
    """Empty where the diversity cannot be judged; ``unjudged`` says why."""
    unjudged: str
    duplicates: Duplicates
    quotes: Quotes


def watch(texts: Iterable[str], real: Reference, *, held_out: Iterable[str] = ()) -> Measured:
    """The measures of a synthetic stream, in any order of documents. Needs no more than its shingles in memory."""
    counts, blocks = Counts(), Blocks(max(real.block, LEAST))
    duplicates, quotes = Duplicates(real.real), Quotes(held_out)
    for some in grouped(texts):
        encoded = [real.vocabulary.encode(text) for text in some]
        counts.add(encoded)
        duplicates.add(some)
        for text, document in zip(some, encoded, strict=True):
            blocks.add(text, document)
            quotes.add(text)
    blocks.close()
    nulls, unjudged = {}, ""
    if not blocks.found:
        unjudged = f"{counts.tokens:,} tokens are too few: {LEAST:,} or more are needed"
    else:
        try:
            nulls = real.nulls(blocks.tokens)
        except ValueError as error:
            unjudged = str(error)
    return Measured(real.source, tail(counts, real.source), blocks, nulls, unjudged, duplicates, quotes)


def grouped(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, some at a time."""
    waiting = iter(texts)
    while some := list(islice(waiting, AT_A_TIME)):
        yield some


class Sample:
    """Random documents of a stream, together at most so many tokens; one at least."""

    def __init__(self, tokens: int, seed: int) -> None:
        self._tokens, self._held = tokens, 0
        self._random = np.random.default_rng(seed)
        self._heap: list[tuple[float, int, str, np.ndarray]] = []
        self._met = 0

    def add(self, text: str, document: np.ndarray) -> None:
        self._met += 1
        heapq.heappush(self._heap, (-float(self._random.random()), self._met, text, document))
        self._held += len(document)
        while self._held > self._tokens and len(self._heap) > 1:
            self._held -= len(heapq.heappop(self._heap)[3])

    def kept(self) -> tuple[list[str], list[np.ndarray]]:
        """In the order of the stream."""
        found = sorted(self._heap, key=lambda entry: entry[1])
        return [entry[2] for entry in found], [entry[3] for entry in found]
