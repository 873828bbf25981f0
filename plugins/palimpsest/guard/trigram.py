"""A word trigram model: the guard's probe, and the generator of its smallest experiment.

Interpolated maximum likelihood, weights 0.55, 0.33, 0.12 for three, two and one word and 0.001 for any word at all.
Training is a sort; a perplexity is a binary search; sampling picks a random place in the training text where the
context stood and takes what followed. All three run on whole arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from palimpsest.guard.tokens import BITS, BOUNDARY, joined, size

WEIGHTS = np.array([0.55, 0.33, 0.12]) / 1.001
ANY = 0.001 / 1.001
MASK = np.int64((1 << BITS) - 1)
SHIFT = np.int64(BITS)
LONGEST = 8_192
"""A document that the model does not end is cut here."""

Follow = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""One token after each context (an array of two rows: the words before)."""


class Trigram:
    """A model of documents (arrays of token numbers). ``types`` is the size of the vocabulary it spreads `ANY` over.

    Two models can be compared only with the same ``types``. Raises ValueError for documents without a token.
    """

    def __init__(self, documents: Sequence[np.ndarray], types: int) -> None:
        if not size(documents):
            raise ValueError("a trigram model needs at least one token of text; give it documents that are not empty")
        self.types = types
        threes = _trigrams(joined(documents))
        self.tokens = len(threes)
        """Predictions learned: the tokens and one end per document."""
        self.threes = np.sort(threes)
        """Every trigram that stands in the documents, 21 bits per word, as often as it does; so the other two."""
        self.twos = np.sort(threes & ((np.int64(1) << 2 * SHIFT) - 1))
        self.ones = np.sort(threes & MASK)
        self.counts = np.bincount(self.ones, minlength=types)
        self._after_one, self._after_two = Contexts(self.twos), Contexts(self.threes)

    def perplexity(self, documents: Sequence[np.ndarray]) -> float:
        """Exponential of the mean surprise per token, ends of documents included."""
        if not size(documents):
            raise ValueError("a perplexity needs at least one token of text; the held-out documents are empty")
        return math.exp(-float(np.mean(np.log(self.probability(_trigrams(joined(documents)))))))

    def probability(self, threes: np.ndarray) -> np.ndarray:
        """P(c | a, b) of each trigram; an unseen context leaves its weight to the shorter one."""
        unique, places = np.unique(threes, return_inverse=True)
        twos = unique & ((np.int64(1) << 2 * SHIFT) - 1)
        last = unique & MASK
        found = self.counts[np.minimum(last, len(self.counts) - 1)] / self.tokens
        found = _backed(self.twos, self._after_one, twos, WEIGHTS[1] / (WEIGHTS[1] + WEIGHTS[2]), found)
        found = _backed(self.threes, self._after_two, unique, WEIGHTS[0] / WEIGHTS.sum(), found)
        return (WEIGHTS.sum() * found + ANY / self.types)[places]

    def sample(
        self,
        tokens: int,
        random: np.random.Generator,
        *,
        mode_seeking: bool = False,
        follow: Follow | None = None,
        longest: int = LONGEST,
        streams: int = 4_096,
    ) -> list[np.ndarray]:
        """Documents of so many tokens together (the last one cut), ends not counted.

        With ``mode_seeking`` each token is, with probability 1/2, the more frequent of two draws: what beams and
        cherry-picking do. ``follow`` draws in the model's place, such as `temperature.Tempered.next`. A document of
        more than ``longest`` tokens is cut.
        """
        follow = follow or self.next
        follow = _favoured(follow, self.counts) if mode_seeking else follow
        documents: list[np.ndarray] = []
        left = tokens
        while left > 0:
            expected = max(1, self.tokens // max(1, self.counts[BOUNDARY]))
            batch = _grow(follow, min(streams, -(-left // expected)), longest, random)
            for document in batch:
                if left <= 0:
                    break
                documents.append(document[:left])
                left -= len(documents[-1])
        return documents

    def next(self, context: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """One token after each context (two rows), drawn from the model."""
        many = context.shape[1]
        level = random.random(many)
        pick = random.random(many)
        word = self.ones[(pick * len(self.ones)).astype(np.int64)] & MASK
        for table, contexts, key, below in (
            (self.twos, self._after_one, context[1], WEIGHTS[:2].sum()),
            (self.threes, self._after_two, context[0] << SHIFT | context[1], WEIGHTS[0]),
        ):
            chosen = np.flatnonzero(level < below)
            first, count = contexts.find(key[chosen])
            seen = count > 0
            chosen, first, count = chosen[seen], first[seen], count[seen]
            word[chosen] = table[first + (pick[chosen] * count).astype(np.int64)] & MASK
        anything = level >= WEIGHTS.sum()
        word[anything] = (pick[anything] * self.types).astype(np.int64)
        return word


def _favoured(follow: Follow, counts: np.ndarray) -> Follow:
    """With probability 1/2 the more frequent of two draws."""

    def drawn(context: np.ndarray, random: np.random.Generator) -> np.ndarray:
        word, other = follow(context, random), follow(context, random)
        better = (random.random(len(word)) < 0.5) & (counts[other] > counts[word])
        return np.where(better, other, word)

    return drawn


def _grow(follow: Follow, count: int, longest: int, random: np.random.Generator) -> list[np.ndarray]:
    """So many documents grown side by side; those that end at once are left out."""
    alive = np.arange(count)
    context = np.zeros((2, count), np.int64)
    columns: list[tuple[np.ndarray, np.ndarray]] = []
    while len(alive) and len(columns) < longest:
        word = follow(context, random)
        going = word != BOUNDARY
        alive, word = alive[going], word[going]
        context = np.stack([context[1, going], word])
        columns.append((alive, word))
    owners = np.concatenate([owner for owner, _ in columns])
    words = np.concatenate([word for _, word in columns]).astype(np.int32)
    order = np.argsort(owners, kind="stable")
    ends = np.searchsorted(owners[order], np.arange(1, count))
    return [document for document in np.split(words[order], ends) if len(document)]


def _trigrams(flat: np.ndarray) -> np.ndarray:
    """The trigrams of joined documents that end in a token or in a document's end, as int64."""
    wide = flat.astype(np.int64)
    predicted = (wide[2:] != BOUNDARY) | (wide[1:-1] != BOUNDARY)
    return (wide[:-2] << 2 * SHIFT | wide[1:-1] << SHIFT | wide[2:])[predicted]


class Contexts:
    """Where the n-grams of each context lie in their sorted table; ``starts`` has their first places, in order."""

    def __init__(self, table: np.ndarray) -> None:
        contexts = table >> SHIFT
        self.starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
        self._contexts = contexts[self.starts]
        self._counts = np.diff(np.append(self.starts, len(table)))

    def find(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First place and number of each context's n-grams; 0 where it was never seen."""
        places = np.minimum(np.searchsorted(self._contexts, contexts), len(self._contexts) - 1)
        return self.starts[places], np.where(self._contexts[places] == contexts, self._counts[places], 0)


def _backed(table: np.ndarray, contexts: Contexts, grams: np.ndarray, weight: float, shorter: np.ndarray) -> np.ndarray:
    """``weight`` for the n-gram's own share of its context, the rest for the shorter one's; all of it if unseen."""
    _, of = contexts.find(grams >> SHIFT)
    count = np.searchsorted(table, grams, "right") - np.searchsorted(table, grams)
    return np.where(of > 0, weight * count / np.maximum(of, 1) + (1 - weight) * shorter, shorter)
