"""The figures that datatrove's filters decide by, each as that library counts it; the thresholds are applied in SQL.

Gopher: Rae et al. 2021 (2112.11446), table A1 and section A1.1. C4: Raffel et al. 2020 (1910.10683), section 2.2.
FineWeb: Penedo et al. 2024 (2406.17557), section 3.6. Where a paper leaves a choice, this is what datatrove 0.10.1 does
(huggingface/datatrove, ``pipeline/filters``): words are spaCy's tokens, mean word length is a mean. Shares are 0 to 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from palimpsest.ingest import tokens
from palimpsest.ingest.punctuation import TERMINAL

VERSION = "0.10.1"
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
SENTENCE_END = (".", "?", "!", '"', "'")
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICY = re.compile("terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies")
LONG_WORD, FEWEST_WORDS = 1_000, 3  # of a line that C4 keeps: characters, words
SHORT_LINE = 30  # characters, FineWeb
TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)  # n-gram sizes, Gopher
COUNTS = ("words", "stop_words", "lorem_ipsum_lines", "curly_bracket_lines", "sentences")
RATIOS = (
    "mean_word_length", "hashes", "ellipses", "bullet_lines", "ellipsis_lines", "alphabetic_words",
    "duplicate_paragraphs", "duplicate_paragraph_characters", "duplicate_lines", "duplicate_line_characters",
    *(f"top_{n}gram" for n in TOP), *(f"duplicate_{n}grams" for n in DUPLICATE),
    "lines_punctuated", "short_lines", "duplicate_characters", "newlines_per_word",
)  # fmt: skip
PREFIX = "datatrove_"
COLUMNS = pa.schema(
    [(PREFIX + name, pa.int64()) for name in COUNTS] + [(PREFIX + name, pa.float64()) for name in RATIOS]
)


def measure(text: str) -> dict[str, float | int | None]:
    """`COLUMNS` of a page with this text, which is more than white space; `tokens.load` takes seconds.

    The mean length of no words is null: datatrove's is not a number, by which no rule drops a page.
    """
    known = tokens.load()
    words = known.of(text)
    found = {**_gopher_quality(text, words, known), **_gopher_repetition(text, words, known)}
    found |= {**_c4(text, known), **_fineweb(text, words)}
    return {PREFIX + name: value for name, value in found.items()}


def _gopher_quality(text: str, words: np.ndarray, known: tokens.Tokens) -> dict[str, float | int | None]:
    is_word, lines = known.known["word"][words], text.splitlines()
    count = int(is_word.sum())
    return {
        "words": count,
        "mean_word_length": int(known.known["length"][words[is_word]].sum()) / count if count else None,
        "hashes": text.count("#") / len(words),
        "ellipses": (text.count("...") + text.count("…")) / len(words),
        "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines),
        "alphabetic_words": int(known.known["letter"][words].sum()) / len(words),
        "stop_words": sum(bool((words == known.number(word)).any()) for word in STOP_WORDS),
    }


def _gopher_repetition(text: str, words: np.ndarray, known: tokens.Tokens) -> dict[str, float]:
    paragraphs, lines = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    blocks, block_characters = _duplicates(paragraphs)
    rows, row_characters = _duplicates(lines)
    lengths, hashes, powers = (known.known[name][words] for name in ("length", "hash", "power"))
    base = np.uint64(tokens.BASE)
    spaced = _runs(hashes + powers * np.uint64(ord(" ")), powers * base, max(TOP))
    joined = _runs(hashes, powers, max(DUPLICATE))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return {
        "duplicate_paragraphs": blocks / len(paragraphs),
        "duplicate_paragraph_characters": block_characters / len(text),
        "duplicate_lines": rows / len(lines),
        "duplicate_line_characters": row_characters / len(text),
        **{f"top_{n}gram": _top(spaced[n], _characters(ends, n) + n - 1) / len(text) for n in TOP},
        **{f"duplicate_{n}grams": _covered(joined[n], _characters(ends, n), n) / len(text) for n in DUPLICATE},
    }


def _c4(text: str, known: tokens.Tokens) -> dict[str, int]:
    """Lines that C4 does not delete before it looks for 'lorem ipsum', for a curly bracket, and for sentences."""
    lorem = brackets = sentences = 0
    for line in text.splitlines():
        whole = line.strip()
        kept = CITATION.sub("", whole) if "[" in whole else whole
        if not kept.endswith(SENTENCE_END) or kept.endswith("..."):
            continue
        words = whole.split()
        if len(words) < FEWEST_WORDS or (len(whole) > LONG_WORD and max(map(len, words)) > LONG_WORD):
            continue
        lower = kept.lower()
        lorem += "lorem ipsum" in lower
        if "javascript" in lower:
            continue
        brackets += "{" in kept
        if not POLICY.search(lower):
            sentences += known.sentences(kept)
    return {"lorem_ipsum_lines": lorem, "curly_bracket_lines": brackets, "sentences": sentences}


def _fineweb(text: str, words: np.ndarray) -> dict[str, float]:
    lines = [line for line in text.split("\n") if line.strip()]
    return {
        "lines_punctuated": sum(line[-1] in TERMINAL for line in lines) / len(lines),
        "short_lines": sum(len(line) <= SHORT_LINE for line in lines) / len(lines),
        "duplicate_characters": _duplicates(lines)[1] / (len(text) - text.count("\n")),
        "newlines_per_word": text.count("\n") / len(words),
    }


def _duplicates(pieces: Sequence[str]) -> tuple[int, int]:
    """How many pieces repeat an earlier one, and their characters."""
    distinct = set(pieces)
    if len(distinct) == len(pieces):
        return 0, 0
    return len(pieces) - len(distinct), sum(map(len, pieces)) - sum(map(len, distinct))


def _runs(hashes: np.ndarray, powers: np.ndarray, most: int) -> list[np.ndarray]:
    """Per n up to ``most`` the hashes of the runs of n words, written one after another; none of 0 words."""
    found = [hashes[:0], hashes]
    for n in range(2, most + 1):
        found.append(found[-1][:-1] * powers[n - 1 :] + hashes[n - 1 :])
    return found


def _characters(ends: np.ndarray, n: int) -> np.ndarray:
    return ends[n:] - ends[:-n]


def _top(runs: np.ndarray, characters: np.ndarray) -> int:
    """Characters of the commonest run, of the first of those as common, at all its places."""
    if not len(runs):
        return 0
    distinct, times = np.unique(runs, return_counts=True)
    most = times.max()
    first = np.isin(runs, distinct[times == most]).argmax() if most > 1 else 0
    return int(most * characters[first])


def _covered(runs: np.ndarray, characters: np.ndarray, n: int) -> int:
    """Characters of the runs of n words that stood before, read from the left: after one it goes on behind it."""
    ordered = np.sort(runs)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated):
        return 0
    seen: set[int] = set()
    covered = free = 0
    for place in np.flatnonzero(np.isin(runs, repeated)).tolist():
        if place < free:
            continue
        run = int(runs[place])
        if run in seen:
            covered += int(characters[place])
            free = place + n
        seen.add(run)
    return covered
