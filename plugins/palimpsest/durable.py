"""Files that survive a crash, and locks that do not survive their process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def write_durably(path: Path, content: str) -> None:
    path.write_text(content)
    fsync(path)


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
