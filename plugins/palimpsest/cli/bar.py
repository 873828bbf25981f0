"""Progress of a generation in the terminal: one bar per shard. Elsewhere the log has a line every few seconds."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from palimpsest.generate.progress import Progress, duration


class Bar:
    """The bars; log lines appear above them while they are shown."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
        )
        self._bars = Bars(*columns, TimeElapsedColumn(), console=self._console)
        self._handlers = [h for h in logging.getLogger().handlers if getattr(h, "stream", None) is sys.stderr]

    def shard(self, shard: int) -> Callable[[Progress], None] | None:
        """What to tell how far a shard has come; None where there is no terminal."""
        if not self._console.is_terminal:
            return None
        task = self._bars.add_task(f"shard {shard}", total=None, rates="")

        def show(progress: Progress) -> None:
            said = f"{progress.tokens_per_s:,.0f} tokens/s, {progress.in_flight:,} in flight"
            said += f", {progress.retries:,} retries" if progress.retries else ""
            said += f", [red]{progress.failed:,} failed[/red]" if progress.failed else ""
            said += f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
            said += f", {escape(progress.waiting)}" if progress.waiting else ""
            self._bars.update(task, completed=progress.done, total=progress.total, rates=said)

        return show

    def __enter__(self) -> Bar:
        if self._console.is_terminal:
            self._bars.start()
            for handler in self._handlers:
                handler.setStream(sys.stderr)  # the one that writes above the bars
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._bars.stop()
            for handler in self._handlers:
                handler.setStream(sys.stderr)
