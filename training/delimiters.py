"""Which tokens of a stream delimit text and are none: the boundary after a document, the marks around a rationale.

The marks are plain text (Kim et al. 2026, 2603.18534), so their tokens are whatever the tokenizer makes of them and of
what they touch: of ``it.</think>`` it may make ``.</``. A token that holds any of a mark delimits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer

from palimpsest.lake import LakeError
from training.documents import Parts

AT_A_TIME = 1 << 16
"""Parts whose ends are in memory."""


def mark(parts: Parts, stream: np.ndarray, tokenizer: Tokenizer) -> Parts:
    """The parts of the whole ``stream`` with ``head`` and ``tail``: how many tokens delimit at either end of each.

    Raises `LakeError` where a rationale's tokens do not read as its marks: then the tokenizer is of no byte level.
    """
    from palimpsest.mixes import MARKS

    stops = np.append(parts.starts[1:], parts.tokens) - parts.ends
    head, tail = np.zeros(len(parts.starts), np.int64), parts.ends.astype(np.int64)
    rationales = np.flatnonzero(parts.rationale)
    sizes = np.array([len(tokenizer.id_to_token(number) or "") for number in range(tokenizer.get_vocab_size())])
    opening, closing = MARKS["think_open"], MARKS["think_close"]
    for start in range(0, len(rationales), AT_A_TIME):
        own = rationales[start : start + AT_A_TIME]
        first = stream[np.minimum(parts.starts[own, None] + np.arange(len(opening)), len(stream) - 1)]
        last = stream[np.maximum(stops[own, None] - 1 - np.arange(len(closing)), 0)]
        head[own], after = (_spanned(found, sizes, len(mark)) for found, mark in ((first, opening), (last, closing)))
        tail[own] += after
        _check(parts, tokenizer, {tuple(ids[:n]) for ids, n in zip(first.tolist(), head[own], strict=True)}, opening)
        _check(parts, tokenizer, {tuple(ids[:n][::-1]) for ids, n in zip(last.tolist(), after, strict=True)}, closing)
    return replace(parts, head=head, tail=tail)


def _spanned(ids: np.ndarray, sizes: np.ndarray, characters: int) -> np.ndarray:
    """(parts,) of so many of the (parts, characters) ids the first characters take."""
    widths = sizes[ids]
    return (np.cumsum(widths, axis=1) - widths < characters).sum(axis=1)


def _check(parts: Parts, tokenizer: Tokenizer, found: set[tuple[int, ...]], mark: str) -> None:
    for ids in found:
        text = tokenizer.decode(list(ids), skip_special_tokens=False)
        if mark not in text:
            raise LakeError(
                f"{parts.file}: tokens {list(ids)} at the end of a rationale read {text!r}, not {mark}; with this "
                "tokenizer training.loss_on cannot be 'text'"
            )
