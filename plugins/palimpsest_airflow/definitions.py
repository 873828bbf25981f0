"""The corpus and study files a Dag file loops over, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from airflow.sdk import CronDataIntervalTimetable

from palimpsest.config import (
    ConfigError,
    corpora_dir,
    labelled_dir,
    load_corpus,
    load_labelled,
    load_loop,
    load_study,
    loops_dir,
    studies_dir,
)

if TYPE_CHECKING:
    from palimpsest.config import Corpus, Labelled, Loop, Study

Definition = TypeVar("Definition", bound="Corpus | Study | Loop | Labelled")


def corpora() -> list[Corpus]:
    return _read(corpora_dir(), load_corpus)[0]


def studies() -> list[Study]:
    """Those of files, then the rounds of loops."""
    rounds = [loop.study(number) for loop in loops() for number in range(loop.rounds + 1)]
    return [*_read(studies_dir(), load_study)[0], *rounds]


def loops() -> list[Loop]:
    return _read(loops_dir(), load_loop)[0]


def labelled() -> list[Labelled]:
    return _read(labelled_dir(), load_labelled)[0]


def check() -> None:
    """Raise one `ConfigError` that names every file no Dag could be made of."""
    places = ((corpora_dir(), load_corpus), (studies_dir(), load_study), (loops_dir(), load_loop))
    places += ((labelled_dir(), load_labelled),)
    errors = [error for folder, load in places for error in _read(folder, load)[1]]
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
