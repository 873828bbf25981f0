"""Pages examined in a forked child with bounds, so that no page can hang, exhaust or kill the stage.

A C extension that loops cannot be interrupted from Python, only its process can be ended. Forking shares what is
already imported: about 10 ms once, and 0.1 ms a page for the pipe.

The bound is processor time, which the kernel counts: on a machine that is busy, stopped or asleep a healthy page takes
longer and is still kept. Only a child that sleeps of its own accord, which examining a page never does, is ended by
the clock.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import psutil

LOOK_S = 0.5  # between two looks at a child that has not answered


class Poisoned(Exception):
    """The page that was asked about broke a bound or ended the child; ``cause`` is 'timeout', 'memory' or 'crashed', or
    what the function that examines pages raised this with.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(cause, detail)  # both, or it could not be sent from one process to another
        self.cause = cause

    def __str__(self) -> str:
        return self.args[1]


class Worker:
    """Calls ``function`` in a child process; a new child takes over after a poisonous argument."""

    def __init__(self, function: Callable[..., Any], timeout_s: float, memory_mb: int) -> None:
        self._function = function
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._child: multiprocessing.process.BaseProcess | None = None
        self.pipe: Connection | None = None
        self.look_s = min(LOOK_S, timeout_s / 4)
        self._asleep: tuple[float, float] | None = None
        """Processor seconds of the child when it was first seen asleep, and that moment."""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def __call__(self, *arguments: object) -> Any:
        """What the function returns. Raises `Poisoned`."""
        self.ask(*arguments)
        while not self.pipe.poll(self.look_s):
            self.look()
        return self.answer()

    def ask(self, *arguments: object) -> None:
        """Begin a call; ``pipe`` can be read when the child has answered, or died."""
        if self._child is None:
            self._start()
        self._asleep = None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # which its answer tells
            self.pipe.send(arguments)

    def look(self) -> None:
        """Raise `Poisoned` for a child that has not answered and slept for the whole of the timeout; to be called every
        ``look_s`` seconds or so.
        """
        spent = _spent_asleep(self._child.pid)
        if spent is None or self._asleep is None or spent != self._asleep[0]:
            self._asleep = None if spent is None else (spent, time.monotonic())
        elif time.monotonic() - self._asleep[1] > self._timeout_s:
            self._end()
            raise Poisoned("timeout", f"asleep for {self._timeout_s:g} s (limits.page_timeout_s)")

    def answer(self) -> Any:
        """What the function returned. Raises `Poisoned`."""
        try:
            result = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            child = self._child
            child.join(5)
            self._end()
            if child.exitcode == -signal.SIGXCPU:
                said = f"no result within {self._timeout_s:g} s of processor time (limits.page_timeout_s)"
                raise Poisoned("timeout", said) from None
            raise Poisoned("crashed", f"the extraction process ended with code {child.exitcode}") from None
        if isinstance(result, MemoryError):
            self._end()  # what it holds may be in pieces
            raise Poisoned("memory", f"more than {self._memory_mb} MB (limits.page_memory_mb)")
        if isinstance(result, Poisoned):
            raise result
        if isinstance(result, Exception):
            raise Poisoned("crashed", f"{type(result).__name__}: {result}"[:500])
        return result

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        bounds = (self._timeout_s, self._memory_mb)
        self._child = context.Process(target=_serve, args=(theirs, self.pipe, self._function, *bounds), daemon=True)
        self._child.start()
        theirs.close()

    def _end(self) -> None:
        if self._child is not None:
            self.pipe.close()
            self._child.kill()
            self._child.join()
            self._child = self.pipe = None


def _spent_asleep(pid: int) -> float | None:
    """Processor seconds of a process that sleeps; None for one that does not."""
    try:
        child = psutil.Process(pid)
        with child.oneshot():
            return sum(child.cpu_times()[:2]) if child.status() == psutil.STATUS_SLEEPING else None
    except psutil.NoSuchProcess:
        return None


def _serve(
    pipe: Connection, parents_end: Connection, function: Callable[..., Any], timeout_s: float, memory_mb: int
) -> None:
    parents_end.close()  # else the child would never see the parent die
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _bound(resource.RLIMIT_AS, psutil.Process().memory_info().vms + memory_mb * 2**20)
    _bound(resource.RLIMIT_CORE, 0)
    while True:
        try:
            arguments = pipe.recv()
        except (EOFError, OSError):
            return
        _bound(resource.RLIMIT_CPU, math.ceil(time.process_time() + timeout_s))
        try:
            answer = function(*arguments)
        except MemoryError:
            answer = MemoryError()
        except Poisoned as poison:
            answer = poison
        except Exception as error:
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        pipe.send(answer)


def _bound(what: int, soft: int) -> None:
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
