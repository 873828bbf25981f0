"""Where a document is cut so that what is asked about it fits a model: at sentence ends, and never silently.

Positions are characters of the document; lengths are tokens of the model that reads it, taken from the tokens' first
characters (``starts``). A view is marked ``truncated`` where the source itself was cut: a chunk that begins or ends
inside a sentence, or a prompt that leaves some of the document out. Chunks at ends of sentences cut nothing: together
they are the whole document, and the text before a chunk is only context, however much of it fits.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？][\"'”’」』）]*\s*|\n+")
WORD_END = re.compile(r"\s+")


@dataclass(frozen=True)
class View:
    """What one request sees of a document: ``text[before:start]`` leads up to ``text[start:end]``."""

    before: int
    start: int
    end: int
    truncated: bool = False


def sentence_ends(text: str) -> list[int]:
    """Where sentences and lines end, white space included, in order; the last is the end of the text."""
    ends = [mark.end() for mark in SENTENCE_END.finditer(text)]
    return ends if ends and ends[-1] == len(text) else [*ends, len(text)]


def token_starts(offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The first character of each token, never going back (a character may be several tokens)."""
    return list(itertools.accumulate((start for start, _ in offsets), max))


def tokens_between(starts: Sequence[int], begin: int, end: int) -> int:
    """How many tokens begin between two characters."""
    return bisect_left(starts, end) - bisect_left(starts, begin)


def chunks(text: str, starts: Sequence[int], *, size: int, lead: int) -> list[View]:
    """The document in chunks of at most ``size`` tokens and nearly the same length; joined they give it exactly.

    Each view leads up to its chunk with as much of the preceding original text as ``lead`` tokens hold. A sentence
    longer than a chunk is cut at white space, or where there is none between two tokens.
    """
    ends = sentence_ends(text)
    cuts, broken = [0], {0: False}
    while len(starts) - (token := bisect_left(starts, cuts[-1])) > size:
        left = len(starts) - token
        target = token + -(-left // -(-left // size))
        cut, inside = _cut(text, starts, ends, cuts[-1], token + size, target)
        if cut >= len(text):
            break
        cuts.append(cut)
        broken[cut] = inside
    views = []
    for start, end in itertools.pairwise([*cuts, len(text)]):
        before = _back(text, starts, ends, start, lead)
        views.append(View(before, start, end, broken[start] or broken.get(end, False)))
    return views


def around(text: str, starts: Sequence[int], at: int, *, size: int) -> View:
    """What lies before and after ``at``, the farthest of both left out where all is more than ``size`` tokens."""
    if len(starts) <= size:
        return View(0, at, len(text))
    ends = sentence_ends(text)
    token = bisect_left(starts, at)
    after = len(starts) - token
    lead = min(token, max(size - after, size // 2))
    before = _back(text, starts, ends, at, lead)
    end = _forth(text, starts, ends, at, size - lead)
    return View(before, at, end, before > 0 or end < len(text))


def upto(text: str, starts: Sequence[int], at: int, *, size: int) -> View:
    """What lies before ``at``, its beginning left out where it is more than ``size`` tokens."""
    before = _back(text, starts, sentence_ends(text), at, size)
    return View(before, at, len(text), before > 0)


def beginning(text: str, share: float) -> int:
    """Where the first ``share`` of a text ends: after a sentence if one ends in the second half of it, else a word.

    White space behind it is left to what follows.
    """
    limit = max(1, int(len(text) * share))
    ends = sentence_ends(text)
    last = bisect_right(ends, limit) - 1
    if last >= 0 and ends[last] > limit // 2:
        return len(text[: ends[last]].rstrip()) or limit
    words = [mark.start() for mark in WORD_END.finditer(text, 0, limit + 1) if mark.start()]
    if words:
        return words[-1]
    following = WORD_END.search(text, limit)
    return following.start() if following else len(text)


def _cut(text: str, starts: Sequence[int], ends: list[int], begin: int, limit: int, target: int) -> tuple[int, bool]:
    """Where the chunk that begins at ``begin`` ends, before token ``limit``, and whether that is inside a sentence."""
    latest = starts[limit]
    low, high = bisect_right(ends, begin), bisect_right(ends, latest)
    if low < high:
        wanted = starts[min(target, len(starts) - 1)]
        near = min(max(bisect_left(ends, wanted), low), high - 1)
        return min(ends[max(near - 1, low) : near + 1], key=lambda end: abs(end - wanted)), False
    words = [mark.end() for mark in WORD_END.finditer(text, begin, latest)]
    if words and words[-1] > begin:
        return words[-1], True
    if latest > begin:
        return latest, True
    after = bisect_right(starts, begin)  # one character of more tokens than a chunk has: it stays whole
    return (starts[after] if after < len(starts) else len(text)), True


def _back(text: str, starts: Sequence[int], ends: list[int], at: int, lead: int) -> int:
    """Where at most ``lead`` tokens before ``at`` begin: at a sentence if one begins among them, else at a word."""
    token = bisect_left(starts, at)
    if token <= lead:
        return 0
    if not lead:
        return at
    first = token - lead
    if starts[first - 1] == starts[first]:  # inside a character of many tokens
        first = bisect_right(starts, starts[first])
    if first >= token:
        return at
    earliest = starts[first]
    sentence = bisect_left(ends, earliest)
    if sentence < len(ends) and ends[sentence] < at:
        return ends[sentence]
    word = WORD_END.search(text, earliest, at)
    return word.end() if word else earliest


def _forth(text: str, starts: Sequence[int], ends: list[int], at: int, size: int) -> int:
    """Where at most ``size`` tokens after ``at`` end: at a sentence if one ends among them, else at a word."""
    token = bisect_left(starts, at) + size
    if token >= len(starts):
        return len(text)
    latest = starts[token]
    last = bisect_right(ends, latest) - 1
    if last >= 0 and ends[last] > at:
        return ends[last]
    words = [mark.end() for mark in WORD_END.finditer(text, at, latest)]
    return words[-1] if words and words[-1] > at else max(latest, at)
