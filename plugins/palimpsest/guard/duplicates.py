"""Near duplicates in a stream, and documents that quote held-out text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from palimpsest.ingest.minhash import BANDS, FACTORS, MIX, OFFSETS, ROWS, run_hashes
from palimpsest.words import WORD, SharedRuns

SHINGLE = 5
"""Words, and the Jaccard similarity of a near duplicate: what the corpora's own deduplication goes by."""
JACCARD = 0.75
RUN = 13
"""Words of a run that nobody writes twice by chance (Brown et al. 2020, appendix C)."""


class Shingles:
    """Hashes of a text's runs of five words (lower case, no marks), equal in every process."""

    def __init__(self) -> None:
        self._hashes = _WordHashes()

    def words(self, text: str) -> np.ndarray:
        """A hash per word, uint64."""
        words = WORD.findall(text.lower())
        return np.fromiter(map(self._hashes.__getitem__, words), np.uint64, len(words))

    def of(self, text: str) -> np.ndarray:
        """The distinct hashes, sorted, uint64; one for the whole text if it is shorter, none without a word."""
        return shingled(self.words(text))


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
        for shingles, keys in banded([self.shingles.of(text) for text in texts]):
            if len(shingles):
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
        for shingles, keys in banded([self._real.shingles.of(text) for text in texts]):
            self.take(shingles, keys)

    def take(self, shingles: np.ndarray, keys: Sequence[int]) -> None:
        """The stream's next document, as `banded` gives it."""
        if len(shingles):
            self.documents += 1
            self.repeated += self._own.meets(shingles, keys)
            self.copied += self._real.seen.meets(shingles, keys)
            self._own.add(shingles, keys)


class Quotes:
    """Counts a stream's documents that share a run of 13 words with a held-out text.

    A hash of the runs says which texts to look at word by word: hardly any.
    """

    def __init__(self, held_out: Iterable[str], shingles: Shingles | None = None) -> None:
        held_out, self._shingles = list(held_out), shingles or Shingles()
        self._runs = SharedRuns(held_out, RUN)
        self._hashes = np.unique(
            np.concatenate(
                [np.zeros(0, np.uint64), *(run_hashes(self._shingles.words(text), RUN) for text in held_out)]
            )
        )
        self.held_out = self._runs.texts
        self.documents = self.quoting = 0
        self.example = ""

    def add(self, text: str, words: np.ndarray | None = None) -> None:
        """The stream's next document; ``words`` are its `Shingles.words` where they are known."""
        self.documents += 1
        sought = run_hashes(self._shingles.words(text) if words is None else words, RUN)
        places = np.searchsorted(self._hashes, sought)
        places[places == len(self._hashes)] = 0
        if not len(self._hashes) or not (self._hashes[places] == sought).any():
            return
        if hit := next(self._runs.hits(text), None):
            self.quoting += 1
            self.example = self.example or hit[1]


def banded(found: Sequence[np.ndarray]) -> list[tuple[np.ndarray, list[int]]]:
    """The shingles of each text with its band keys; of a text without a word there are none."""
    keys = iter(bands([shingles for shingles in found if len(shingles)]))
    return [(shingles, next(keys) if len(shingles) else []) for shingles in found]


def shingled(words: np.ndarray) -> np.ndarray:
    """`Shingles.of` a text by its `Shingles.words`."""
    return np.unique(run_hashes(words, min(SHINGLE, max(len(words), 1))))


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
