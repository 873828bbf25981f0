"""Figures of testbeds: what the hypergradient still tells, who has the weight, which features carry it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from training.analysis.plots import save
from training.analysis.style import COLOURS, DASHED, INK, STYLE, WIDTH

Rows = Sequence[Mapping]
LEAST_EFFECTIVE = 32
"""As `training.meta.diagnosis` has it, which cannot be imported here: it loads torch."""
SHOWN = 12

Plot = Callable[[Mapping[str, Rows]], plt.Figure | None]
Figures = Mapping[str, tuple[str, str, Plot]]
"""By name title, caption and drawing, which is none where nothing was measured."""


def draw(figures: Figures, tables: Mapping[str, Rows], directory: Path) -> list[str]:
    """Write those that there are rows for; their names, in reading order."""
    with plt.rc_context(STYLE):
        names = [name for name, (_, _, plot) in figures.items() if save(plot(tables), name, directory)]
    for name in names:
        (directory / f"{name}.svg").unlink()  # the page shows the PNG
    return names


def noise(tables: Mapping[str, Rows], arms: Sequence[str]) -> plt.Figure:
    """GSNR and effective examples over the steps."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 5.6), sharex=True, layout="constrained")
    for colour, arm in zip(COLOURS, arms, strict=False):
        rows = [row for row in tables["trace"] if row["arm"] == arm]
        for axes, name in ((above, "mts/gsnr"), (below, "mts/effective")):
            steps, values = _over_steps(rows, name)
            axes.plot(steps, values, color=colour, label=arm, linewidth=1.7)
    above.set_yscale("symlog", linthresh=0.01)
    below.set_yscale("log")
    below.axhline(LEAST_EFFECTIVE, color=INK, linestyle=DASHED, linewidth=1)
    above.set_ylabel("GSNR")
    below.set_ylabel("effective examples of a batch")
    below.set_xlabel("step")
    above.legend()
    for axes in (above, below):
        axes.grid()
    return figure


def weights(tables: Mapping[str, Rows], arm: str, sorts: Sequence[str]) -> plt.Figure:
    """The mean weight of each sort of example over the steps."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
    rows = [row for row in tables["trace"] if row["arm"] == arm]
    for number, sort in enumerate(sorts):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": "-" if number < len(COLOURS) else DASHED}
        axes.plot(*_over_steps(rows, f"mts/weight_{sort}"), **style, label=sort, linewidth=1.7)
    axes.axhline(1, color=INK, linestyle=DASHED, linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("mean weight, of the pool 1")
    axes.grid()
    axes.legend(ncols=2)
    return figure


def carried(tables: Mapping[str, Rows], arm: str) -> plt.Figure:
    """AUROC that is lost where a feature is shuffled."""
    found: dict[str, list[float]] = {}
    for row in tables["carried"]:
        if row["arm"] == arm:
            found.setdefault(row["feature"], []).append(row["lost"])
    shown = sorted(found.items(), key=lambda pair: -np.mean(pair[1]))[:SHOWN][::-1]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.27 * len(shown)), layout="constrained")
    for place, (_, lost) in enumerate(shown):
        axes.barh(place, np.mean(lost), color=COLOURS[1], alpha=0.7)
        axes.plot(lost, [place] * len(lost), "o", color=INK, alpha=0.5, markersize=4)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown])
    axes.set_xlabel("AUROC lost when it is shuffled")
    axes.grid(axis="x")
    return figure


def _over_steps(rows: Rows, name: str) -> tuple[list[int], list[float]]:
    """Means over the seeds, at the steps where there are any."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row[name] is not None:
            found.setdefault(row["step"], []).append(row[name])
    return sorted(found), [float(np.mean(found[step])) for step in sorted(found)]
