"""Who is at work, in words that any process of the same machine can check: what a dead process held is free at once."""

from __future__ import annotations

import os
import re
import socket
from functools import lru_cache
from pathlib import Path

import psutil

IDENTITY = re.compile(r"(?P<place>[\w-]+~\w*~\d+)~(?P<pid>\d+)~(?P<start>\d+)")


@lru_cache
def place() -> str:
    """This machine since it was started; inside a container, the container (its process numbers are its own)."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # no Linux
        boot, space = "", 0
    return f"{host}~{boot}~{space}"


def identity() -> str:
    """This process: place, number and start; letters, digits, '-' and '~' only."""
    return f"{place()}~{os.getpid()}~{_start(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether the process of this `identity` has certainly ended. One of another machine is never known to have."""
    found = IDENTITY.fullmatch(name)
    return bool(found) and found["place"] == place() and _start(int(found["pid"])) != int(found["start"])


def _start(pid: int) -> int | None:
    """When the process was started; None if there is none, or only what its parent has not yet taken note of.

    Linux counts from the machine's own start, which no change of its clock moves.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if status[0] in "ZX" else int(status[19])
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time())
    except psutil.NoSuchProcess:
        return None
