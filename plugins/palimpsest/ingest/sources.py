"""The files of a corpus, and their digests."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from palimpsest.config import Corpus, remedy, resolve, unresolved
from palimpsest.lake import LakeError, digest_file


@dataclass(frozen=True)
class SourceFile:
    """``name`` as the corpus file gives it (globs filled in), ``path`` where it lies."""

    name: str
    path: Path

    @property
    def fingerprint(self) -> dict[str, str]:
        return {"name": self.name, "sha256": digest_file(self.path)}


def source_files(corpus: Corpus) -> list[SourceFile]:
    """Every file of the corpus once, sorted by name. Raises `LakeError` for a pattern that finds nothing."""
    found: dict[str, SourceFile] = {}
    for number, pattern in enumerate(corpus.source.files):
        paths = [Path(p) for p in glob.glob(str(resolve(pattern)), recursive=True) if Path(p).is_file()]
        if not paths:
            raise LakeError(
                f"{corpus.path}: source.files[{number}]: no file matches '{pattern}' (looked at {resolve(pattern)}); "
                f"{remedy(pattern)}"
            )
        for path in paths:
            name = unresolved(path)
            found[name] = SourceFile(name, path)
    return [found[name] for name in sorted(found)]
