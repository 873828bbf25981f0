"""What the rules need to know of a text, found once: its words, their runs of five, and how it names and counts."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property

from palimpsest.words import WORD

NEAR_COPY_WORDS = 5
"""Length of the word runs compared for near-copies (FineWeb and Gopher use 5 as well)."""
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Thai, Lao, Burmese, Khmer, kana and Han put no space between words: each character is a unit of its own."""
UNIT = re.compile(f"{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern})[^\\W_])+")
NUMBER = re.compile(r"\d+(?:[.,'\u00a0\u202f]\d{3}(?!\d))*(?:[.,]\d+)?")
CAPITALISED = re.compile(r"[^\W\d_a-zß-öø-ÿ](?<=[\w,;)%’] .)[^\W\d_]+(?:[.'’-][^\W\d_]+)*")
"""A word after a word on the same line, with a capital (or a letter that has none: those are left out later)."""
STEM, TERM = 6, 5
"""Characters of a word that are compared (a crude stem that needs no language), and of the shortest that count."""


class Facts:
    """One text; everything but the text is computed when first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lower(self) -> str:
        return self.text.lower()

    @cached_property
    def words(self) -> list[str]:
        return WORD.findall(self.lower)

    @cached_property
    def joined(self) -> str:
        """The words with one blank around each: a run of words is a substring of it."""
        return f" {' '.join(self.words)} "

    @cached_property
    def runs(self) -> list[int]:
        """A hash for every run of five words, in order; none for a shorter text."""
        return runs(self.words)

    @cached_property
    def distinct_runs(self) -> frozenset[int]:
        return frozenset(self.runs)

    @cached_property
    def units(self) -> list[str]:
        """Words; of scripts without spaces, characters."""
        return UNIT.findall(self.lower) if self._unspaced else self.words

    @cached_property
    def _unspaced(self) -> bool:
        return not self.text.isascii() and UNSPACED.search(self.text) is not None

    @cached_property
    def terms(self) -> frozenset[str]:
        """Content words: five characters or more, cut at six; of scripts without spaces, pairs of characters."""
        found = {stem for stem in self.stems if len(stem) >= TERM and not stem.isdigit()}
        if self._unspaced:
            found = {term for term in found if not UNSPACED.search(term)}
            found.update(a + b for a, b in zip(self.units, self.units[1:], strict=False) if UNSPACED.match(a + b))
        return frozenset(found)

    @cached_property
    def stems(self) -> frozenset[str]:
        return frozenset([word[:STEM] for word in self.words])

    @cached_property
    def names(self) -> frozenset[str]:
        """Stems of words with a capital that no sentence, line, quotation or bracket begins with."""
        written = [name for name in CAPITALISED.findall(self.text) if name[0].isupper()]
        return frozenset(part[:STEM] for name in written for part in WORD.findall(name.lower()) if len(part) > 1)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Numbers of two digits or more in one spelling: 1,200.50 is 1200.5. Smaller ones are as often written out."""
        return frozenset(n for n in map(_number, NUMBER.findall(self.text)) if len(n) > 1)


def runs(words: list[str], length: int = NEAR_COPY_WORDS) -> list[int]:
    return list(map(hash, zip(*(words[i:] for i in range(length)), strict=False)))


def overlap(own: Facts, source: Facts) -> float:
    """Share of a text's distinct runs of five words that its source holds too; 0 for a text without a run."""
    return len(own.distinct_runs & source.distinct_runs) / len(own.distinct_runs) if own.distinct_runs else 0.0


def _number(found: str) -> str:
    if not found.isascii():
        found = "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in found)
    whole, _, rest = found.replace(",", ".").rpartition(".") if _has_fraction(found) else (found, "", "")
    digits = "".join(c for c in whole if c.isdigit()).lstrip("0")
    fraction = rest.rstrip("0")
    return f"{digits or '0'}.{fraction}" if fraction else digits


def _has_fraction(found: str) -> bool:
    """1,5 and 3.14 have one; 1,200 and 1.200.000 have groups of thousands."""
    tail = max(found.rfind("."), found.rfind(","))
    return tail > 0 and len(found) - tail - 1 != 3
