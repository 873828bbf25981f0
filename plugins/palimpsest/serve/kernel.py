"""Two things Linux does for a supervisor: it hands over orphans, and it ends children whose parent is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}): {os.strerror(ctypes.get_errno())}")


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # not after a fork


def adopt_orphans() -> None:
    """From now on, descendants whose parent died become children of this process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Between fork and exec: the child is killed when the thread that started it ends, however that happens."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def reap(ours: set[int]) -> None:
    """Take away the adopted orphans that have ended; ``ours`` are waited for by others."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, 0)
