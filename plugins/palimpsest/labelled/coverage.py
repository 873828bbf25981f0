"""The coverage plan: what each cell has, what it lacks, and whether to generate or to collect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from palimpsest.config import Labelled
from palimpsest.labelled.items import Items
from palimpsest.lake import LakeError


@dataclass(frozen=True)
class Cell:
    """One cell of the crosstab, all counts in items."""

    cell: str
    label: str
    group: str
    found: int
    """In the source."""
    test: int
    validation: int
    real: int
    """To train on."""
    held_back: int
    """Real items that nothing is trained on but the arm that asks what real data would be worth."""
    target: int
    deficit: int
    cap: int
    """The most that may be generated."""
    planned: int
    decision: str
    """'enough', 'generate' or 'collect'."""
    why: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def plan(study: Labelled, items: Items) -> list[Cell]:
    """A row per cell, in order. Raises `LakeError` for a starved cell that does not exist, and where no cell is whole
    enough to be measured.
    """
    names, found = items.names, np.bincount(items.cells, minlength=len(items.names))
    labels = [label for label in items.labels for _ in items.groups]
    unknown = sorted(set(study.starve) - set(names) - set(labels))
    if unknown:
        raise LakeError(f"{study.path}: starve: there is no cell '{unknown[0]}'; there are {', '.join(names)}")
    tests = [min(study.test, int(count) // 3) for count in found]
    validations = [min(study.validation, int(count) // 3) for count in found]
    left = [int(count) - test - held for count, test, held in zip(found, tests, validations, strict=True)]
    starved = [study.starve.get(cell, study.starve.get(label)) for cell, label in zip(names, labels, strict=True)]
    real = [min(count, study.train or count, most or count) for count, most in zip(left, starved, strict=True)]
    whole = {label for label, test in zip(labels, tests, strict=True) if test}
    if len(whole) < 2:
        raise LakeError(
            f"{study.path}: only {len(whole)} label has a cell of 3 items or more: nothing can be measured; give "
            "more rows"
        )
    target = max(real) if study.coverage.target == "largest" else study.coverage.target
    return [
        _row(study, items, place, int(count), tests[place], validations[place], int(real[place]), int(target))
        for place, count in enumerate(found)
    ]


def _row(
    study: Labelled, items: Items, place: int, found: int, test: int, validation: int, real: int, target: int
) -> Cell:
    cover = study.coverage
    label, group = (items.labels[place // len(items.groups)], items.groups[place % len(items.groups)])
    deficit, cap = max(0, target - real), int(cover.max_ratio * real)
    decision, planned, why = "enough", 0, f"{real} of {target} are there"
    if deficit and real < cover.min_seeds:
        decision = "collect"
        why = f"{real} real items; {cover.min_seeds} are needed to generate from: collect, don't generate"
    elif deficit:
        decision, planned = "generate", min(deficit, cap)
        why = f"{planned} to be generated from {real} real ones"
        if cap < deficit:
            why += f", the most that {cover.max_ratio:g} per real one allows; collect {deficit - cap} more"
    held = found - test - validation - real
    return Cell(
        items.names[place], label, group, found, test, validation, real, held, target, deficit, cap, planned,
        decision, why,
    )  # fmt: skip


def render(cells: Sequence[Cell]) -> str:
    """The plan as a table for a terminal."""
    wide = max(len("cell"), *(len(cell.cell) for cell in cells)) + 2
    counts = ("found", "test", "validation", "real", "held back", "target", "deficit", "cap", "planned")
    widths = [max(len(name), 6) + 2 for name in counts]
    heads = "".join(f"{name:>{width}}" for name, width in zip(counts, widths, strict=True))
    lines = [f"{'cell':<{wide}}{heads}  decision"]
    for cell in cells:
        figures = (cell.as_dict()[name.replace(" ", "_")] for name in counts)
        cut = "".join(f"{figure:>{width},}" for width, figure in zip(widths, figures, strict=True))
        lines.append(f"{cell.cell:<{wide}}{cut}  {cell.decision}: {cell.why}")
    return "\n".join(lines)
