"""Files that survive a crash, and locks that do not survive their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from pathlib import Path

from palimpsest.liveness import identity, is_dead

PARTIAL = re.compile(r"\.[0-9a-f]{8}\.(?P<writer>[\w~-]+)\.partial")
ABANDONED_S = 86_400.0
"""A partial file of another machine that nobody has written to for so long is nobody's."""


def write_durably(path: Path, content: str) -> None:
    path.write_text(content)
    fsync(path)


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """The directory and its parents; those that were made are still there after a power failure."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        fsync(made.parent)


def partial_beside(path: Path) -> Path:
    """A hidden name in the same directory to write to first, that says whose it is."""
    return path.with_name(f".{secrets.token_hex(4)}.{identity()}.partial")


def move_durably(partial: Path, path: Path) -> None:
    """Give a written file its name: from here on it is there, whole, whatever fails."""
    fsync(partial)
    os.replace(partial, path)
    fsync(path.parent)


def sweep(path: Path) -> None:
    """Delete a partial file if its writer is dead; any other file stays."""
    found = PARTIAL.fullmatch(path.name)
    with contextlib.suppress(FileNotFoundError):
        if found and path.is_file() and (is_dead(found["writer"]) or time.time() - path.stat().st_mtime > ABANDONED_S):
            path.unlink()


def lock(directory: Path) -> int | None:
    """A lock on a directory, held until it is closed; None if another process holds it or the directory is gone."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
