"""Pages examined in a forked child with a deadline, so that no page can hang or kill the stage.

A C extension that loops cannot be interrupted from Python, only its process can be ended. Forking shares what is
already imported: about 10 ms once, and 0.1 ms a page for the pipe.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any


class Poisoned(Exception):
    """The page that was asked about took too long or ended the child; ``cause`` is 'timeout' or 'crashed'."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


class Worker:
    """Calls ``function`` in a child process; a new child takes over after a poisonous argument."""

    def __init__(self, function: Callable[..., Any], timeout_s: float) -> None:
        self._function = function
        self._timeout_s = timeout_s
        self._child: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def __call__(self, *arguments: object) -> Any:
        if self._child is None:
            self._start()
        try:
            self._pipe.send(arguments)
            if not self._pipe.poll(self._timeout_s):
                self._end()
                raise Poisoned("timeout", f"no result within {self._timeout_s:g} s (limits.page_timeout_s)")
            result = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            child = self._child
            child.join(5)
            self._end()
            raise Poisoned("crashed", f"the extraction process ended with code {child.exitcode}") from None
        if isinstance(result, Exception):
            raise Poisoned("crashed", f"{type(result).__name__}: {result}"[:500])
        return result

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=_serve, args=(theirs, self._pipe, self._function), daemon=True)
        self._child.start()
        theirs.close()

    def _end(self) -> None:
        if self._child is not None:
            self._pipe.close()
            self._child.kill()
            self._child.join()
            self._child = self._pipe = None


def _serve(pipe: Connection, parents_end: Connection, function: Callable[..., Any]) -> None:
    parents_end.close()  # else the child would never see the parent die
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = function(*arguments)
        except Exception as error:
            answer = RuntimeError(f"{type(error).__name__}: {error}")
        pipe.send(answer)
