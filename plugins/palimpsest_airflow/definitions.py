"""The corpus and study files a Dag file loops over, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from airflow.sdk import CronDataIntervalTimetable

from palimpsest.config import ConfigError, kinds

if TYPE_CHECKING:
    from palimpsest.config import Corpus, Labelled, Loop, Study

Definition = TypeVar("Definition", bound="Corpus | Study | Loop | Labelled")


def corpora() -> list[Corpus]:
    return _read(*kinds()["corpora"])[0]


def studies() -> list[Study]:
    """Those of files, then the rounds of loops."""
    rounds = [loop.study(number) for loop in loops() for number in range(loop.rounds + 1)]
    return [*_read(*kinds()["studies"])[0], *rounds]


def loops() -> list[Loop]:
    return _read(*kinds()["loops"])[0]


def labelled() -> list[Labelled]:
    return _read(*kinds()["labelled"])[0]


def check() -> None:
    """Raise one `ConfigError` that names every file no Dag could be made of."""
    errors = [error for folder, load in kinds().values() for error in _read(folder, load)[1]]
    if errors:
        raise ConfigError("\n".join(errors))


def timetable(definition: Corpus | Study | Loop | Labelled) -> CronDataIntervalTimetable:
    """Data intervals of a corpus, or the clock of a study; a run belongs to one whole interval."""
    return CronDataIntervalTimetable(definition.schedule, timezone="UTC")


def _read(folder: Path, load: Callable[[Path], Definition]) -> tuple[list[Definition], list[str]]:
    """One broken file must not take the other Dags down, so errors are collected, not raised."""
    found, errors = [], []
    for path in sorted(folder.glob("*.yaml")):
        try:
            found.append(load(path))
        except ConfigError as error:
            errors.append(str(error))
    return found, errors
