"""The demo's live display: one row per stage on a terminal, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from palimpsest_airflow.local.runs import Following, Stage

EXPECTED = {
    "corpus.extract": 5.0,
    "corpus.documents": 5.0,
    "corpus.gate": 4.0,
    "corpus.publish": 1.5,
    "study.plan": 4.0,
    "study.generate": 4.0,
    "study.collect": 3.0,
    "study.build": 6.0,
    "study.gate": 6.0,
    "study.waive": 1.0,
    "study.tokenize": 4.0,
    "study.train": 30.0,
    "study.report": 6.0,
}
"""Seconds per task instance of the sample on two cores of 2026; what is left is scaled by how fast this machine is."""


class Display:
    """``plan`` names every stage in order with its number of instances and how many run at a time."""

    def __init__(self, plan: dict[tuple[str, str], tuple[int, int]], console: Console) -> None:
        self.plan, self.console = plan, console
        self.began = time.monotonic()
        self.note = ""
        self.seen = Following()
        self.live: Live | None = None
        self._estimate = (-1, 0.0)
        self._told: dict[tuple[str, str], tuple[int, int]] = {}

    @contextlib.contextmanager
    def shown(self) -> Iterator[Display]:
        if not self.console.is_terminal:
            yield self
            return
        with Live(get_renderable=self._table, console=self.console, refresh_per_second=4, transient=True) as self.live:
            yield self
        self.live = None

    def say(self, note: str) -> None:
        self.note = note
        if not self.live:
            self.console.print(f"[{self.elapsed:4.0f} s] {note}", highlight=False, markup=False)

    def update(self, seen: Following) -> None:
        self.seen = seen
        for key, stage in seen.stages.items():
            told = (stage.done, stage.total)
            if not self.live and stage.done and self._told.get(key) != told:
                self._told[key] = told
                self.say(f"{_title(key):22} {stage.done}/{stage.total}  {self._left()}")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def _left(self) -> str:
        """Counted down from the last estimate; a new one is made whenever an instance ends."""
        done = sum(stage.done for stage in self.seen.stages.values())
        if done != self._estimate[0]:
            self._estimate = (done, self.elapsed + self._estimated())
        left = self._estimate[1] - self.elapsed
        return f"about {_clock(left)} left" if left > 0 else "any moment now"

    def _estimated(self) -> float:
        """Seconds: the expected ones of what is not done, times this machine's pace so far."""
        spent = expected = left = 0.0
        for key, (planned, parallel) in self.plan.items():
            stage = self.seen.stages.get(key) or Stage(*key, total=planned)
            each = EXPECTED.get(f"{key[0].split('_')[0]}.{key[1]}", 5.0) / parallel
            left += each * (max(stage.total, planned) - stage.done)
            if stage.done:
                spent += stage.seconds
                expected += each * stage.done
        return left * (min(max(spent / expected, 0.3), 10.0) if expected else 1.0)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(width=1)
        table.add_column(width=24)
        table.add_column(width=24)
        table.add_column(justify="right", width=7)
        table.add_column(justify="right", width=7)
        for key, (planned, _) in self.plan.items():
            stage = self.seen.stages.get(key) or Stage(*key, total=planned)
            total = max(stage.total, planned)
            mark, style = _mark(stage, total)
            bar = ProgressBar(total=total, completed=stage.done, width=22, pulse=bool(stage.running) and not stage.done)
            seconds = f"{stage.seconds:.0f} s" if stage.seconds else ""
            table.add_row(
                Text(mark, style), Text(_title(key), style), bar, f"{stage.done}/{total}", Text(seconds, "dim")
            )
        foot = Text(f"\n{_clock(self.elapsed)} elapsed, {self._left()}", "bold") + Text(f"   {self.note}", "dim")
        return Group(table, foot)


def _title(key: tuple[str, str]) -> str:
    return f"{key[0].split('_')[0]} {key[1]}"


def _mark(stage: Stage, total: int) -> tuple[str, str]:
    if stage.failed:
        return "✗", "red"
    if stage.done == total:
        return "✓", "green"
    return ("▶", "bold") if stage.running or stage.done else ("·", "dim")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
