"""Labelled items of a study's source, cut into cells: a label, or a label and a group."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from palimpsest.config import ConfigError, Labelled, matching, remedy, resolve, unresolved
from palimpsest.lake import LakeError, Rows
from palimpsest.table import read_table

ALL = "all"
"""The one group of a source that is not cut into groups."""
Values = list[str] | np.ndarray


@dataclass(frozen=True)
class Items:
    """Real items and their cells."""

    keys: list[str]
    values: Values
    """Texts, or images as rows of 64 pixels between 0 and 1."""
    cells: np.ndarray
    """Place of each item's cell among all: label first, then group."""
    labels: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def label(self) -> np.ndarray:
        """Place of each item's label among `labels`."""
        return self.cells // len(self.groups)

    @property
    def names(self) -> list[str]:
        """Of the cells, in order."""
        return [name(label, group, self.groups) for label in self.labels for group in self.groups]


def name(label: str, group: str, groups: Sequence[str]) -> str:
    """A cell's name: ``label/group``, or the label alone where there are no groups."""
    return label if tuple(groups) == (ALL,) else f"{label}/{group}"


def take(values: Values, places: Sequence[int] | np.ndarray) -> Values:
    return values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]


def join(*parts: Values) -> Values:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def read(study: Labelled) -> tuple[Items, Rows]:
    """All items of the source, at most ``per_cell`` of a cell, and what became of its rows.

    Raises `LakeError` for a row without a label, with one or a group that the file does not know, and for a source
    with fewer than two labels; `ConfigError` for a file that is not there.
    """
    if study.source.kind == "digits":
        return _digits()
    rows, texts, dropped = 0, _Kept(study.source.per_cell), Counter()
    for key, text, label, group in _rows(study):
        rows += 1
        if label is None:
            dropped["other_label"] += 1
        elif not text:
            dropped["no_text"] += 1
        elif not texts.add((label, group), (key, text)):
            dropped["beyond_per_cell"] += 1
    labels = tuple(study.source.labels) or tuple(sorted({label for label, _ in texts.cells}))
    groups = tuple(study.source.groups or _bounds(study)) or tuple(sorted({group for _, group in texts.cells}))
    _check(study, rows, {label for label, _ in texts.cells}, labels)
    held = [
        (key, text, labels.index(label) * len(groups) + groups.index(group))
        for (label, group), kept in sorted(texts.cells.items())
        for key, text in sorted(kept)
    ]
    keys, values, cells = zip(*held, strict=True)
    return Items(list(keys), list(values), np.array(cells), labels, groups), Rows(rows, len(held), dropped)


class _Kept:
    """A random choice of each cell's rows, by reservoir: the same one every time."""

    def __init__(self, most: int) -> None:
        self.most, self.cells = most, defaultdict(list)
        self._met: Counter[tuple[str, str]] = Counter()
        self._random = np.random.default_rng(0)

    def add(self, cell: tuple[str, str], item: tuple[str, str]) -> bool:
        """Whether the cell still holds as many rows as it has met: False where one had to go."""
        kept, met = self.cells[cell], self._met[cell]
        self._met[cell] += 1
        if met < self.most:
            kept.append(item)
            return True
        place = int(self._random.integers(met + 1))
        if place < self.most:
            kept[place] = item
        return False


def _rows(study: Labelled) -> Iterator[tuple[str, str, str | None, str]]:
    """(key, text, label, group) of each row; no label for one to be left out."""
    source, random = study.source, np.random.default_rng(0)
    columns = [source.text, source.label, *([source.group] if source.group else [])]
    for pattern in source.files:
        files = matching(pattern)
        if not files:
            raise ConfigError(f"{study.path}: source.files: no file {resolve(pattern)}; {remedy(pattern)}")
        for file in files:
            shown = unresolved(file)
            for number, _, row in read_table(file, columns, source.where, shown):
                value, text = row.get(source.label), row.get(source.text)
                if value is None or value == "":
                    raise LakeError(
                        f"{shown}: row {number}: no label in column '{source.label}'; label the row, or leave it out "
                        "with source.where"
                    )
                label = _label(study, str(value), f"{shown}: row {number}")
                words = text.split() if isinstance(text, str) else []
                group = _group(study, row, len(words), f"{shown}: row {number}")
                yield f"{file.name}:{number}", _window(words, text, source.window, random), label, group


def _window(words: list[str], text: str | None, size: int | None, random: np.random.Generator) -> str:
    if not words or not size:
        return text if words else ""
    start = int(random.integers(max(len(words) - size, 0) + 1))
    return " ".join(words[start : start + size])


def _label(study: Labelled, value: str, where: str) -> str | None:
    source = study.source
    if not source.labels:
        return value
    found = [label for label, patterns in source.labels.items() if any(fnmatchcase(value, p) for p in patterns)]
    if len(found) > 1:
        raise LakeError(f"{where}: '{value}' is taken by labels {', '.join(found)}; make source.labels tell them apart")
    if not found and source.others == "refuse":
        known = ", ".join(source.labels)
        raise LakeError(
            f"{where}: label '{value}' is unknown (known: {known}); add it to source.labels, or set source.others: "
            "leave_out"
        )
    return found[0] if found else None


def _bounds(study: Labelled) -> list[str]:
    bounds = study.source.lengths
    return [f"under_{bounds[0]}", *(f"from_{bound}" for bound in bounds)] if bounds else []


def _group(study: Labelled, row: dict, words: int, where: str) -> str:
    source = study.source
    if source.lengths:
        return _bounds(study)[int(np.searchsorted(source.lengths, words, "right"))]
    if not source.group:
        return ALL
    value = row.get(source.group)
    if value is None or value == "":
        raise LakeError(f"{where}: no group in column '{source.group}'; fill it, or leave the row out")
    if source.groups and str(value) not in source.groups:
        raise LakeError(
            f"{where}: group '{value}' is unknown (known: {', '.join(source.groups)}); add it to source.groups"
        )
    return str(value)


def _check(study: Labelled, rows: int, found: set[str], labels: Sequence[str]) -> None:
    named = ", ".join(study.source.files)
    if not found:
        what = "no row" if not rows else f"{rows} rows, none with a text and a label that is asked for"
        raise LakeError(f"{study.path}: source.files: {named} has {what}; name a table of labelled texts")
    if len(found) < 2:
        raise LakeError(
            f"{study.path}: all rows of {named} have the label '{next(iter(found))}': there is nothing to tell apart; "
            "name further files, or another column as source.label"
        )
    lacking = sorted(set(labels) - found)
    if lacking:
        raise LakeError(
            f"{study.path}: source.labels: no row has label '{lacking[0]}'; correct its patterns or remove it"
        )


def _digits() -> tuple[Items, Rows]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    names = tuple(str(digit) for digit in range(10))
    keys = [f"digits:{number}" for number in range(len(images))]
    return Items(keys, images / 16, labels.astype(int), names, (ALL,)), Rows(len(images), len(images))
