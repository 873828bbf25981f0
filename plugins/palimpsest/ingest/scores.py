"""What the named quality rules need to know of one text, as numbers; the thresholds are applied in SQL.

Gopher: Rae et al. 2021 (2112.11446), table A1 and section A1.1. C4: Raffel et al. 2020 (1910.10683), section 2.2.
FineWeb: Penedo et al. 2024 (2406.17557), section 3.6. Shares are 0 to 1. Rows of a table (cells parted by tabs) are
no lines in the sense of these rules: they have no full stops and would sink every page that holds a large table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
TERMINAL = (".", "!", "?", '"', "'", "”", "’", "…", "。", "！", "？")
ELLIPSIS = ("...", "…")
BULLETS = ("•", "‣", "▪", "●", "◦", "*", "-", "–")
POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    "javascript",
)
SENTENCE_END = re.compile(r"[.!?][\"'”’)]*(?:\s|$)")
SHORT_LINE = 30  # characters, FineWeb
MIN_LINE_WORDS = 5  # C4: a line with fewer words is no sentence
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 over the golden ratio
TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)  # n-gram sizes, Gopher


def score(text: str) -> dict[str, float | int]:
    words = text.split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    prose = [line for line in lines if "\t" not in line] or lines
    return {
        **_gopher_quality(text, words, prose),
        **_gopher_repetition(text, words, prose),
        **_c4(text, words, prose),
        **_fineweb(words, prose),
        "table_rows": len(lines) - len(prose),
    }


def _gopher_quality(text: str, words: Sequence[str], prose: Sequence[str]) -> dict[str, float | int]:
    count = max(len(words), 1)
    symbols = text.count("#") + text.count("…") + text.replace("…", "").count("...")
    return {
        "words": len(words),
        "mean_word_length": sum(map(len, words)) / count,
        "symbol_ratio": symbols / count,
        "alphabetic_words": sum(word.isalpha() or any(map(str.isalpha, word)) for word in words) / count,
        "stop_words": len(STOP_WORDS & {word.strip(".,;:!?\"'()").lower() for word in set(words)}),
        "bullet_lines": _share(prose, lambda line: line.startswith(BULLETS)),
        "ellipsis_lines": _share(prose, lambda line: line.endswith(ELLIPSIS)),
    }


def _gopher_repetition(text: str, words: Sequence[str], prose: Sequence[str]) -> dict[str, float]:
    paragraphs = [p.strip() for p in re.split(r"\n{2,}", text) if p.strip() and "\t" not in p]
    lines, line_characters = _duplicates(prose)
    blocks, block_characters = _duplicates(paragraphs)
    ngrams = _Ngrams([word.lower() for word in words])
    return {
        "duplicate_lines": lines,
        "duplicate_line_characters": line_characters,
        "duplicate_paragraphs": blocks,
        "duplicate_paragraph_characters": block_characters,
        **{f"top_{n}gram": ngrams.top(n) for n in TOP},
        **{f"duplicate_{n}grams": ngrams.duplicate(n) for n in DUPLICATE},
    }


def _c4(text: str, words: Sequence[str], prose: Sequence[str]) -> dict[str, float | int]:
    policy = [line for line in prose if any(phrase in line.lower() for phrase in POLICY)]
    kept = [
        line for line in prose if line.endswith(TERMINAL) and len(line.split()) >= MIN_LINE_WORDS and line not in policy
    ]
    return {
        "lorem_ipsum": text.lower().count("lorem ipsum"),
        "curly_brackets": text.count("{") / max(len(words), 1),
        "policy_words": sum(len(line.split()) for line in policy) / max(sum(len(line.split()) for line in prose), 1),
        "sentences": sum(len(SENTENCE_END.findall(line)) for line in kept),
    }


def _fineweb(words: Sequence[str], prose: Sequence[str]) -> dict[str, float]:
    return {
        "lines_punctuated": _share(prose, lambda line: line.endswith(TERMINAL)),
        "short_lines": _share(prose, lambda line: len(line) <= SHORT_LINE),
        "newlines_per_word": max(len(prose) - 1, 0) / max(len(words), 1),
    }


def _share(lines: Sequence[str], holds) -> float:
    return sum(map(holds, lines)) / len(lines) if lines else 0.0


def _duplicates(pieces: Sequence[str]) -> tuple[float, float]:
    """Share of the pieces that repeat an earlier one, and share of their characters."""
    seen: set[str] = set()
    count = characters = 0
    for piece in pieces:
        if piece in seen:
            count += 1
            characters += len(piece)
        seen.add(piece)
    return count / max(len(pieces), 1), characters / max(sum(map(len, pieces)), 1)


class _Ngrams:
    """The n-grams of a text as 64-bit keys: most texts repeat none, which this says without touching each in Python."""

    def __init__(self, words: Sequence[str]) -> None:
        numbers: dict[str, int] = {}
        ids = np.array([numbers.setdefault(word, len(numbers) + 1) for word in words], dtype=np.uint64)
        self._words = ids * MIX
        self._ends = np.concatenate([[0], np.cumsum([len(word) for word in words], dtype=np.int64)])

    def top(self, n: int) -> float:
        """Share of the characters that stand in the commonest n-gram, if it occurs more than once."""
        keys, characters = self._keys(n)
        if not len(keys):
            return 0.0
        _, first, times = np.unique(keys, return_index=True, return_counts=True)
        most = times.max()
        if most == 1:
            return 0.0
        return min(int(most * characters[first[times == most]].max()) / int(self._ends[-1]), 1.0)

    def duplicate(self, n: int) -> float:
        """Share of the characters covered by n-grams that occurred before; overlaps count once."""
        keys, characters = self._keys(n)
        _, inverse, times = np.unique(keys, return_inverse=True, return_counts=True)
        again = np.flatnonzero(times[inverse] > 1)  # the others are in nobody's way
        seen: set[int] = set()
        covered = free = 0
        for position, key in zip(again.tolist(), inverse[again].tolist(), strict=True):
            if position < free:
                continue
            if key in seen:
                covered += int(characters[position])
                free = position + n
            else:
                seen.add(key)
        return covered / max(int(self._ends[-1]), 1)

    def _keys(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """A key per position, and the characters of the n-gram there."""
        count = max(len(self._words) - n + 1, 0)
        keys = np.zeros(count, dtype=np.uint64)
        for i in range(n):
            keys = (keys ^ (keys >> np.uint64(29))) * MIX + self._words[i : i + count]
        return keys, self._ends[n : n + count] - self._ends[:count]
