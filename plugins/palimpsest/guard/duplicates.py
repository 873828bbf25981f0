"""Near duplicates in a stream, and documents that quote held-out text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np

from palimpsest.ingest.minhash import BANDS, FACTORS, OFFSETS, ROWS
from palimpsest.words import WORD, SharedRuns

SHINGLE = 5
"""Words, and the Jaccard similarity of a near duplicate: what the corpora's own deduplication goes by."""
JACCARD = 0.75
RUN = 13
"""Words of a run that nobody writes twice by chance (Brown et al. 2020, appendix C)."""
MIX = np.uint64(0x9E3779B97F4A7C15)


class Shingles:
    """Hashes of a text's runs of five words (lower case, no marks), equal in every process."""

    def __init__(self) -> None:
        self._hashes = _WordHashes()

    def of(self, text: str) -> np.ndarray:
        """The distinct hashes, sorted, uint64; one for the whole text if it is shorter, none without a word."""
        words = WORD.findall(text.lower())
        hashes = np.fromiter(map(self._hashes.__getitem__, words), np.uint64, len(words))
        many = max(len(words) - SHINGLE + 1, 1) if words else 0
        found = np.zeros(many, np.uint64)
        for place in range(min(SHINGLE, len(words))):
            found = (found ^ hashes[place : place + many]) * MIX
            found ^= found >> np.uint64(29)
        return np.unique(found)


class Seen:
    """Documents met so far, and whether the next one nearly equals one of them.

    MinHash bands propose (`palimpsest.ingest.minhash`), exact Jaccard decides. Memory: 4 bytes per shingle and a key
    per band of each document. The first document with a key speaks for it: time stays linear however many collide.
    """

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._shingles: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._shingles)

    def meets(self, shingles: np.ndarray, keys: Sequence[int]) -> bool:
        """Whether a document met before nearly equals this one; itself it is not added."""
        mine = _small(shingles)
        candidates = sorted({self._first[key] for key in keys if key in self._first})
        return any(jaccard(self._shingles[place], mine) >= JACCARD for place in candidates)

    def add(self, shingles: np.ndarray, keys: Sequence[int]) -> None:
        place = len(self._shingles)
        self._shingles.append(_small(shingles))
        for key in keys:
            self._first.setdefault(key, place)


class Real:
    """Real documents to compare streams with."""

    def __init__(self) -> None:
        self.shingles = Shingles()
        self.seen = Seen()

    def add(self, texts: Sequence[str]) -> None:
        """The next real documents, some thousands at a time."""
        for shingles, keys in banded(self.shingles, texts):
            self.seen.add(shingles, keys)


class Duplicates:
    """Counts a stream's documents that nearly equal a real one, or an earlier one of the stream."""

    def __init__(self, real: Real) -> None:
        self._real, self._own = real, Seen()
        self.documents = self.repeated = self.copied = 0
        """Documents with a word in them; those near an earlier one; those near a real one."""

    @property
    def known(self) -> int:
        """Real documents compared with."""
        return len(self._real.seen)

    def add(self, texts: Sequence[str]) -> None:
        """The stream's next documents, some thousands at a time."""
        for shingles, keys in banded(self._real.shingles, texts):
            self.documents += 1
            self.repeated += self._own.meets(shingles, keys)
            self.copied += self._real.seen.meets(shingles, keys)
            self._own.add(shingles, keys)


class Quotes:
    """Counts a stream's documents that share a run of 13 words with a held-out text."""

    def __init__(self, held_out: Iterable[str]) -> None:
        self._runs = SharedRuns(held_out, RUN)
        self.held_out = self._runs.texts
        self.documents = self.quoting = 0
        self.example = ""

    def add(self, text: str) -> None:
        self.documents += 1
        if hit := next(self._runs.hits(text), None):
            self.quoting += 1
            self.example = self.example or hit[1]


def banded(shingles: Shingles, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Shingles and band keys of each text that has a word."""
    found = [one for text in texts if len(one := shingles.of(text))]
    return zip(found, bands(found), strict=True)


def bands(shingles: Sequence[np.ndarray]) -> list[list[int]]:
    """The band keys of each document (none may be empty), with the odds of `palimpsest.ingest.minhash`."""
    if not shingles:
        return []
    flat = np.concatenate(shingles)
    starts = np.concatenate([[0], np.cumsum([len(found) for found in shingles])[:-1]])
    keys = np.zeros((BANDS, len(shingles)), np.uint64)
    for place in range(BANDS * ROWS):
        least = np.minimum.reduceat((flat * FACTORS[place] + OFFSETS[place]) >> np.uint64(16), starts)
        band = place // ROWS
        keys[band] = (keys[band] ^ least) * MIX + np.uint64(band + 1)
    return keys.T.tolist()


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Shared over all distinct shingles of two sorted arrays."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / max(len(first) + len(second) - shared, 1)


def _small(shingles: np.ndarray) -> np.ndarray:
    """The upper halves, distinct: of two documents' shingles, one pair in four billion meets by chance."""
    return np.unique((shingles >> np.uint64(32)).astype(np.uint32))


class _WordHashes(dict):
    def __missing__(self, word: str) -> int:
        self[word] = found = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        return found
