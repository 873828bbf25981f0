"""Byte-level BPE: trained on a study's real documents or loaded from a file, never fooled by markup in the text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from palimpsest.lake import LakeError

BOUNDARY = "<|endoftext|>"
"""Document boundary; always token id 0 of a tokenizer trained here."""


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of at most ``vocab_size`` tokens; every byte is covered, so nothing is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[BOUNDARY],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return tokenizer


def load(file: Path) -> Tokenizer:
    """The tokenizer in ``file``, which must know the document boundary; see `load_any`."""
    tokenizer = load_any(file)
    if tokenizer.token_to_id(BOUNDARY) is None:
        raise LakeError(f"{file}: has no {BOUNDARY} token; add it as a special token, it marks document boundaries")
    return tokenizer


def load_any(file: Path) -> Tokenizer:
    """The tokenizer in ``file``: nothing cropped, nothing padded, a boundary mark inside a text stays text."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        raise LakeError(f"{file}: not a tokenizer.json that can be loaded: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def count(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, without boundaries."""
    return [len(e.ids) for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def slices(tokenizer: Tokenizer, text: str, parts: int) -> list[str]:
    """``text`` cut into ``parts`` slices of nearly equal token counts; joined they give it back exactly.

    The first ``tokens mod parts`` slices get one token more (megadocs paper, stretch rule). A text of fewer tokens
    than parts gives one slice per token. A cut never falls inside a character.
    """
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    parts = max(1, min(parts, len(offsets)))
    size, longer = divmod(len(offsets), parts)
    cuts = [0]
    for part in range(1, parts):
        token = part * size + min(part, longer)
        cuts.append(max(offsets[token][0], cuts[-1]))
    cuts.append(len(text))
    return [text[a:b] for a, b in itertools.pairwise(cuts)]
