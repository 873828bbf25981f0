"""What a gate says: one verdict per expectation, and the table a person reads in a task log."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from palimpsest.guard.verdict import Verdict as GuardVerdict
from palimpsest.lake import LakeError, Published
from palimpsest.state import state_dir


@dataclass(frozen=True)
class Verdict:
    suite: str
    expectation: str
    sentence: str
    severity: str
    observed: str
    asked: str
    success: bool
    setting: str = ""
    """The key of the corpus or study file that has the threshold; empty where there is none."""


@dataclass(frozen=True)
class Judged:
    verdicts: Sequence[Verdict]
    pages: dict[str, str]
    """Suite → its page, relative to the Data Docs root."""
    profiles: Mapping[str, pd.DataFrame]
    """What was judged, by suite."""
    guard: Sequence[GuardVerdict] = ()
    """The collapse guard's own verdicts, which suite 'guard' repeats."""
    data_until: str | None = None
    """The newest day of the documents judged."""

    @property
    def failed(self) -> list[Verdict]:
        return [v for v in self.verdicts if not v.success]

    @property
    def blocking(self) -> list[Verdict]:
        return [v for v in self.failed if v.severity == "critical"]

    @property
    def warnings(self) -> list[Verdict]:
        return [v for v in self.failed if v.severity != "critical"]

    @property
    def page(self) -> str:
        """The page to open first: that of the first blocking suite, else of the last suite."""
        suite = next((v.suite for v in [*self.blocking, *self.failed]), list(self.pages)[-1])
        return self.pages[suite]


class GateFailed(LakeError):
    """A critical expectation does not hold: nothing after this gate may run on this data."""

    def __init__(self, message: str, waivable: Sequence[Mapping[str, object]] = (), report: str = "") -> None:
        super().__init__(message)
        self.waivable = list(waivable)
        """The guard's breaches, if they alone block and a person may answer for each of them; else none."""
        self.report = report
        """What the guard's probes found: whoever is asked to answer reads it first."""
        self.record: Published | None = None
        """The published verdict."""


def data_docs_dir() -> Path:
    return Path(os.environ.get("PALIMPSEST_DATA_DOCS") or state_dir() / "data_docs").resolve()


def data_docs_link(page: str) -> str:
    """Where a person opens a page: under PALIMPSEST_DATA_DOCS_URL where one is served, else the file."""
    served = os.environ.get("PALIMPSEST_DATA_DOCS_URL")
    return f"{served.rstrip('/')}/{page}" if served else str(data_docs_dir() / page)


def table(verdicts: Sequence[Verdict], width: int = 44) -> str:
    """Verdicts as plain text, one wrapped row each: suite, sentence, observed, asked, severity."""
    header = ("suite", "expected", "observed", "asked", "severity")
    widths = (
        max(len(header[0]), *(len(v.suite) for v in verdicts)),
        width,
        width,
        max(len(header[3]), *(len(v.asked) for v in verdicts)),
        max(len(header[4]), *(len(v.severity) for v in verdicts)),
    )
    rows = [header, tuple("-" * w for w in widths)]
    rows += [(v.suite, v.sentence, v.observed, v.asked, v.severity) for v in verdicts]
    lines = []
    for row in rows:
        cells = [textwrap.wrap(cell, w) or [""] for cell, w in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            parts = (c[i] if i < len(c) else "" for c in cells)
            lines.append("  ".join(p.ljust(w) for p, w in zip(parts, widths, strict=True)).rstrip())
    return "\n".join(lines)
