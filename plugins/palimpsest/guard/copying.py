"""What a text repeats: n-grams of the text its generator learned from, and whole phrases of its own siblings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from palimpsest.guard.diversity import SPLITS, Null, null_of
from palimpsest.guard.tokens import TOKEN, batches, joined, runs

LENGTHS = (5, 9, 13)
TEXTS, WORDS, ORDER = 200, 400, 4
"""Self-BLEU: texts, tokens of each, longest n-gram."""


class Known:
    """The n-grams of the text that a generator learned from, by hash: 8 bytes each."""

    def __init__(self, documents: Iterable[np.ndarray], lengths: Sequence[int] = LENGTHS) -> None:
        found: dict[int, list[np.ndarray]] = {length: [] for length in lengths}
        for batch in batches(documents):
            flat = joined(batch)
            for length in lengths:
                found[length].append(np.unique(runs(flat, length)))
        self._grams = {
            length: np.unique(np.concatenate(parts or [np.zeros(0, np.uint64)])) for length, parts in found.items()
        }

    def novelty(self, documents: Iterable[np.ndarray]) -> dict[int, float | None]:
        """By length: the share of a stream's n-grams that are new; None where no document is as long as that.

        Ordinary samples are newer than held-out text, constrained decoding less (Rusty-DAWG, 2406.13069).
        """
        new, all_ = Counter(), Counter()
        for batch in batches(documents):
            flat = joined(batch)
            for length, known in self._grams.items():
                sought = np.sort(runs(flat, length))
                places = np.minimum(np.searchsorted(known, sought), max(len(known) - 1, 0))
                new[length] += int((known[places] != sought).sum()) if len(known) else len(sought)
                all_[length] += len(sought)
        return {length: new[length] / all_[length] if all_[length] else None for length in self._grams}


def novelty_nulls(known: Known, documents: Sequence[np.ndarray], seed: int = 0) -> dict[int, Null]:
    """By length, the novelty of real documents that ``known`` does not hold, over random halves of them.

    Empty for fewer documents than two per half; without the lengths that no document has.
    """
    if len(documents) < 2 * SPLITS:
        return {}
    random = np.random.default_rng(seed)
    halves = [random.permutation(len(documents))[: len(documents) // 2] for _ in range(SPLITS)]
    found = [known.novelty(documents[place] for place in half) for half in halves]
    lengths = [length for length in found[0] if all(own[length] is not None for own in found)]
    return {length: null_of([own[length] for own in found]) for length in lengths}


def self_bleu_null(texts: Sequence[str], count: int, seed: int = 0) -> Null | None:
    """Self-BLEU of so many real texts, over random draws: it rises with their number. None where one has none."""
    random = np.random.default_rng(seed)
    found = [self_bleu([texts[place] for place in random.permutation(len(texts))[:count]]) for _ in range(SPLITS)]
    return None if None in found else null_of(found)


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU of each text against all others, 0 to 1: near 1 where one template wrote them all.

    Of at most 200 texts and 400 tokens of each. None for fewer than two texts with tokens.
    """
    tokens = [found for text in texts[:TEXTS] if (found := TOKEN.findall(text)[:WORDS])]
    if len(tokens) < 2:
        return None
    counted = [[_grams(words, length) for length in range(1, ORDER + 1)] for words in tokens]
    highest = [_two_highest(counts[order] for counts in counted) for order in range(ORDER)]
    lengths = Counter(len(words) for words in tokens)
    scores = []
    for words, counts in zip(tokens, counted, strict=True):
        lengths[len(words)] -= 1
        matches = []
        for mine, best in zip(counts, highest, strict=True):
            # a count that stands highest is this text's own: what the others have is the second
            others = ((n, best[g][1] if n == best[g][0] else best[g][0]) for g, n in mine.items())
            matches.append((sum(min(n, other) for n, other in others), sum(mine.values())))
        scores.append(_score(matches, len(words), lengths))
        lengths[len(words)] += 1
    return float(np.mean(scores))


def bleu(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Sentence BLEU of up to 4-grams against several references (Papineni et al. 2002).

    An order without a match counts a tenth of one (Chen and Cherry 2014, method 1).
    """
    matches = []
    for length in range(1, ORDER + 1):
        mine = _grams(candidate, length)
        theirs = [_grams(reference, length) for reference in references]
        matches.append((sum(min(n, max(t[g] for t in theirs)) for g, n in mine.items()), sum(mine.values())))
    return _score(matches, len(candidate), Counter(len(reference) for reference in references))


def _score(matches: Sequence[tuple[int, int]], length: int, references: Counter[int]) -> float:
    if not matches[0][0]:
        return 0.0
    precision = sum(math.log((found or 0.1) / (of or 1)) for found, of in matches) / ORDER
    closest = min((other for other, n in references.items() if n), key=lambda other: (abs(other - length), other))
    return math.exp(precision + min(0.0, 1 - closest / length))


def _grams(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[place:] for place in range(length)), strict=False))


def _two_highest(counts: Iterable[Counter]) -> dict[tuple[str, ...], tuple[int, int]]:
    """By n-gram, the highest and the second highest count that a text has of it."""
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for counted in counts:
        for gram, n in counted.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (n, first) if n > first else (first, max(second, n))
    return found
