"""When a corpus or a study runs: a preset or a cron expression, checked when the file is read.

Each field is checked by itself, more strictly than croniter does; whatever passes here makes a timetable.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")
MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
DAYS = "sun|mon|tue|wed|thu|fri|sat"


def _field(value: str, other: str = "(?!)") -> re.Pattern[str]:
    """A comma list of values, ranges and ``*``, each with an optional step; or else a comma list of ``other``."""
    item = rf"(?:\*|(?:{value})(?:-(?:{value}))?)(?:/[1-9]\d?)?"
    return re.compile(rf"{item}(?:,{item})*|(?:{other})(?:,(?:{other}))*", re.IGNORECASE | re.ASCII)


FIELDS = {
    "minute": _field(r"[0-5]?\d"),
    "hour": _field(r"[01]?\d|2[0-3]"),
    "day of month": _field(r"0?[1-9]|[12]\d|3[01]", "l"),
    "month": _field(rf"0?[1-9]|1[0-2]|{MONTHS}"),
    "day of week": _field(rf"[0-7]|{DAYS}", rf"(?:[0-7]|{DAYS})#[1-5]"),
}
"""``L`` is the month's last day, ``mon#1`` its first Monday."""


def _cron(value: str) -> str:
    return _checked(value)


def _cron_or_word(value: str) -> str:
    return _checked(value, "on_corpora", "manual")


def _checked(value: str, *words: str) -> str:
    if value in (*words, *PRESETS):
        return value
    fields = value.split()
    wrong = [f"{name} '{f}'" for (name, p), f in zip(FIELDS.items(), fields, strict=False) if not p.fullmatch(f)]
    if len(fields) != len(FIELDS):
        wrong = [f"{len(fields)} fields"]
    if wrong:
        allowed = ", ".join((*words, *PRESETS))
        raise ValueError(
            f"'{value}' is not a cron expression ({', '.join(wrong)}); allowed: {allowed} or five fields "
            f"({', '.join(FIELDS)}) such as '0 6 * * *'"
        )
    return value


Cron = Annotated[str, AfterValidator(_cron)]
CronOrWord = Annotated[str, AfterValidator(_cron_or_word)]
"""A cron expression, 'on_corpora' or 'manual'."""
