"""One pass over a synthetic stream beside its real source: everything that gates G8 to G10 judge.

real = Reference(train_texts)
found = watch(synthetic_texts, real, held_out=validation_texts)
verdicts = judge(found, DEFAULTS, "synthetic rephrases of domain wikinews", depth=1)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeVar

import numpy as np

from palimpsest.guard.copying import Known
from palimpsest.guard.diversity import BLOCK, LEAST, Blocks, Null, split_nulls
from palimpsest.guard.duplicates import Duplicates, Quotes, Real, banded, shingled
from palimpsest.guard.tail import Counts, Source, Tail, tail
from palimpsest.guard.tokens import Vocabulary

HELD = 3_000_000
"""Tokens of real text kept for splits: a random sample of documents where there are more."""
AT_A_TIME = 256
"""Documents."""
T = TypeVar("T")


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
    return watch_parts(((None, text) for text in texts), real, {}, held_out=held_out)[0]


def watch_parts(
    texts: Iterable[tuple[str | None, str]],
    real: Reference,
    parts: Mapping[str, Reference],
    *,
    held_out: Iterable[str] = (),
) -> tuple[Measured, dict[str, Measured]]:
    """The measures of a stream and of its parts (domains), each beside real text of its own, in one pass.

    ``texts`` come with the name of their part; one of no part counts for the whole alone. Quotes are sought in the
    whole. The references of the parts have the vocabulary of ``real``.
    """
    whole, own = _Stream(real), {name: _Stream(part) for name, part in parts.items()}
    quotes = Quotes(held_out, real.real.shingles)
    for some in grouped(texts):
        words = [real.real.shingles.words(text) for _, text in some]
        read = [
            (text, real.vocabulary.encode(text), shingles, keys)
            for (_, text), (shingles, keys) in zip(some, banded(list(map(shingled, words))), strict=True)
        ]
        whole.add(read)
        for name in {name for name, _ in some if name is not None}:
            own[name].add([document for (part, _), document in zip(some, read, strict=True) if part == name])
        for (_, text), spoken in zip(some, words, strict=True):
            quotes.add(text, spoken)
    nothing = Quotes(())
    return whole.measured(quotes), {name: stream.measured(nothing) for name, stream in own.items()}


class _Stream:
    """What is counted of a stream beside its real text."""

    def __init__(self, real: Reference) -> None:
        self._real = real
        self._counts, self._blocks = Counts(), Blocks(max(real.block, LEAST))
        self._duplicates = Duplicates(real.real)

    def add(self, read: Sequence[tuple[str, np.ndarray, np.ndarray, list[int]]]) -> None:
        """Text, tokens, shingles and band keys of the next documents."""
        self._counts.add([document for _, document, *_ in read])
        for text, document, shingles, keys in read:
            self._duplicates.take(shingles, keys)
            self._blocks.add(text, document)

    def measured(self, quotes: Quotes) -> Measured:
        real, counts, blocks = self._real, self._counts, self._blocks
        blocks.close()
        nulls, unjudged = {}, ""
        if not blocks.found:
            unjudged = f"{counts.tokens:,} tokens are too few: {LEAST:,} or more are needed"
        else:
            try:
                nulls = real.nulls(blocks.tokens)
            except ValueError as error:
                unjudged = str(error)
        return Measured(real.source, tail(counts, real.source), blocks, nulls, unjudged, self._duplicates, quotes)


def grouped(texts: Iterable[T]) -> Iterator[list[T]]:
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
