"""A trigram model at a temperature: what a language model's temperature is, computed exactly."""

from __future__ import annotations

import numpy as np

from palimpsest.guard.trigram import ANY, MASK, SHIFT, WEIGHTS, Contexts, Trigram


class Tempered:
    """A trigram model at a temperature: it draws with the probabilities P ^ (1 / T), normalised.

    P is that of `Trigram.next`. A word's power is that of its share by itself, and what it has more after one word of
    context, and after two: each part never negative, so that a draw is one of three, and each is a cumulative sum.
    Raises ValueError for a temperature of 0 or less.
    """

    def __init__(self, model: Trigram, temperature: float) -> None:
        if not temperature > 0:
            raise ValueError(f"a temperature of {temperature:g} draws nothing; give one above 0, such as 0.7")
        three, two, one = WEIGHTS

        def power(share: np.ndarray) -> np.ndarray:
            return (share + ANY / model.types) ** (1 / temperature)

        ones = model.counts[: model.types] / model.tokens
        self._threes, share_3 = _shares(model.threes)
        self._twos, share_2 = _shares(model.twos)
        self._after_two, self._after_one = Contexts(self._threes), Contexts(self._twos)
        alone = one * ones[self._twos & MASK]
        known = two * share_2 + alone
        place = np.searchsorted(self._twos, self._threes & ((np.int64(1) << 2 * SHIFT) - 1))
        self._unknown, self._ones = _summed(power(WEIGHTS.sum() * ones)), _summed(power(one * ones))
        self._more_2 = _summed(power((three + two) * share_2 + alone) - power(alone))
        self._more_2_of_3 = _summed(power(known) - power(alone))
        self._more_3 = _summed(power(three * share_3 + known[place]) - power(known[place]))

    def next(self, context: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """One token after each context (two rows)."""
        first_3, count_3 = self._after_two.find(context[0] << SHIFT | context[1])
        first_2, count_2 = self._after_one.find(context[1])
        seen = count_3 > 0
        word = np.empty(len(seen), np.int64)
        three = _mass(self._more_3, first_3, count_3)
        two = np.where(seen, _mass(self._more_2_of_3, first_2, count_2), _mass(self._more_2, first_2, count_2))
        alone = np.where(count_2 > 0, self._ones[-1], self._unknown[-1])
        level = random.random(len(seen)) * (three + two + alone)
        parts = (
            (level < three, self._more_3, first_3, count_3, 0 * three, self._threes),
            ((level >= three) & (level < three + two) & seen, self._more_2_of_3, first_2, count_2, three, self._twos),
            ((level >= three) & (level < three + two) & ~seen, self._more_2, first_2, count_2, three, self._twos),
        )
        for chosen, sums, first, count, below, table in parts:
            wanted = sums[first[chosen]] + level[chosen] - below[chosen]
            last = first[chosen] + count[chosen] - 1
            place = np.searchsorted(sums, wanted, "right") - 1
            word[chosen] = table[np.clip(place, first[chosen], last)] & MASK
        for known, sums in ((count_2 > 0, self._ones), (count_2 == 0, self._unknown)):
            chosen = (level >= three + two) & known
            place = np.searchsorted(sums, (level - three - two)[chosen], "right") - 1
            word[chosen] = np.minimum(place, len(sums) - 2)
        return word


def _shares(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct n-grams of a sorted table, and each one's share of its context."""
    first = np.flatnonzero(np.concatenate([[True], table[1:] != table[:-1]]))
    distinct, counts = table[first], np.diff(np.append(first, len(table)))
    starts = Contexts(distinct).starts
    totals = np.add.reduceat(counts, starts)
    return distinct, counts / np.repeat(totals, np.diff(np.append(starts, len(distinct))))


def _summed(mass: np.ndarray) -> np.ndarray:
    """Cumulative sums from 0 on; what rounding made negative is nothing."""
    return np.concatenate([[0.0], np.cumsum(np.maximum(mass, 0))])


def _mass(sums: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    return sums[first + count] - sums[first]
