"""Degenerate repetition: a text that says the same again and again, usually until it is cut off.

Two measures on words (of scripts without spaces, characters). Back to back: one piece follows itself over and over.
Overall: the share of runs of five words that occurred before, 'seq-rep-n' of Welleck et al. 2019 (1908.04319,
section 6.1). Refrains, lists and tables come back too, so the bounds lie where real text does not go; a source that
repeats as much is being retold.
"""

from __future__ import annotations

from palimpsest.generate.review.facts import NEAR_COPY_WORDS, Facts, runs

TAIL, INSIDE = (4, 16), (8, 48)
"""Times a piece follows itself, and words this takes: at the end of the text, and anywhere."""
LONG_PIECE, LONG_TAIL, LONG_INSIDE = 8, 3, 4
"""Words of a long piece, and times it follows itself at the end and anywhere: fewer than of a short one."""
REPEATED, REPEATED_RUNS = 0.5, 100
"""Share of runs that occurred before, in a text of at least so many."""
MARKS = 120
"""Characters at the end that repeat a piece of at most a tenth of them: dots, emoji, empty table cells."""


def loop(text: Facts, source: Facts) -> str | None:
    own = runs(text.units) if text.units is not text.words else text.runs
    found = _back_to_back(text, own, source) or _marks(text.text, source.text)
    if found is not None:
        return found
    share = repeated(own)
    if len(own) >= REPEATED_RUNS and share >= REPEATED and repeated(source.runs) < share / 2:
        return f"{share:.0%} of its runs of {NEAR_COPY_WORDS} words occurred before"
    return None


def repeated(found: list[int]) -> float:
    """seq-rep-n: share of the runs that occurred before."""
    return 1 - len(set(found)) / len(found) if found else 0.0


def _back_to_back(text: Facts, found: list[int], source: Facts) -> str | None:
    if not found or len(set(found)) == len(found):
        return None
    units = text.units
    for period, start, end in _pieces(found):
        times, length = (end - start) / period, end - start
        at_the_end = end >= len(units) - 3
        bounds = [INSIDE, *([TAIL] if at_the_end else [])]
        bounds += [(LONG_TAIL if at_the_end else LONG_INSIDE, 0)] if period >= LONG_PIECE else []
        looping = any(times >= fewest and length >= words for fewest, words in bounds)
        if looping and " ".join(units[start : start + 2 * period]) not in " ".join(source.units):
            piece = " ".join(units[start : start + min(period, 12)])
            return f"'{piece}' {int(times)} times on end{', and there it ends' if at_the_end else ''}"
    return None


def _pieces(found: list[int]):
    """(period, first word, word after the last) of every stretch that repeats what stood a period earlier."""
    last: dict[int, int] = {}
    period = begin = 0
    for place, run in enumerate(found):
        distance = place - last.get(run, place)
        last[run] = place
        if distance != period:
            if period:
                yield period, begin - period, place + NEAR_COPY_WORDS - 1
            period, begin = distance, place
    if period:
        yield period, begin - period, len(found) + NEAR_COPY_WORDS - 1


def _marks(text: str, source: str) -> str | None:
    """The period of the last `MARKS` characters, if it is short (Knuth, Morris and Pratt's failure function)."""
    tail = text.rstrip()[-MARKS:]
    if len(tail) < MARKS or len(set(tail)) > MARKS // 10 or tail[: MARKS // 2] in source:
        return None
    border = [0] * len(tail)
    size = 0
    for place in range(1, len(tail)):
        while size and tail[place] != tail[size]:
            size = border[size - 1]
        size += tail[place] == tail[size]
        border[place] = size
    period = len(tail) - border[-1]
    return f"ends in {tail[:period]!r} over and over" if period <= MARKS // 10 else None
