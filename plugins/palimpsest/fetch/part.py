"""A file that is on its way: what came of it, what was noted of it, and what can be wrong with a try."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from palimpsest.lake import LakeError

Note = Callable[[int], None]


class Damaged(LakeError):
    """The bytes are all here and are not what they should be."""


class Refused(LakeError):
    """The server does not give it out."""


class Missing(Refused):
    """The server does not have it. ``said``: how its answer begins."""

    def __init__(self, message: str, said: bytes = b"") -> None:
        super().__init__(message)
        self.said = said


class Busy(ConnectionError):
    """The server asks to come back later."""

    def __init__(self, message: str, after_s: float | None) -> None:
        super().__init__(message)
        self.after_s = after_s


def forget(target: Path) -> None:
    """Remove a part and what was noted of it."""
    target.unlink(missing_ok=True)
    notes_of(target).unlink(missing_ok=True)


def check_size(url: str, size: int, most: int, target: Path) -> None:
    """Raise `LakeError` for more than ``most`` bytes, and forget what came of them."""
    if size > most:
        forget(target)
        raise LakeError(
            f"{url}: more than {most} bytes (source.transfer.max_file_bytes); raise it if the file is to be larger"
        )


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def notes_of(target: Path) -> Path:
    """Where it is kept which version of the file the part is of."""
    return target.with_name(f"{target.name}.json")


def read_notes(target: Path) -> dict | None:
    try:
        return json.loads(notes_of(target).read_text())
    except (FileNotFoundError, ValueError):
        return None
