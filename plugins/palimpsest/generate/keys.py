"""Keys of many samples of one request, without hashing the document again for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

SAMPLING = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


class Document:
    """A document's share of its keys; the same for whatever is asked about it."""

    def __init__(self, text: str) -> None:
        self._digest = hashlib.sha256(f"[{SAMPLING.encode(text)}, ".encode())

    def group(self, prompt: str, model: str, sampling: Mapping[str, object]) -> Group:
        """All samples of one rendered prompt on one model."""
        digest = self._digest.copy()
        digest.update(f"{SAMPLING.encode(prompt)}, {SAMPLING.encode([model, dict(sampling)])[1:-1]}, ".encode())
        return Group(digest)


class Group:
    """Requests that differ only in their sample: ``key(g)`` is `palimpsest.generate.ledger.request_key` of sample g."""

    def __init__(self, digest) -> None:
        self._digest = digest
        self.name = digest.hexdigest()[:32]
        self._base = int(self.name[:15], 16)

    def key(self, sample: int) -> str:
        digest = self._digest.copy()
        digest.update(f"{sample}]".encode())
        return digest.hexdigest()[:32]

    def seed(self, sample: int) -> int:
        """Seeds of a group follow on one another, as vLLM seeds the n samples of one request; below 2**61."""
        return self._base + sample
