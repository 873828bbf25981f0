"""Figures and page of a loop's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from palimpsest.config import BASELINE, Loop
from training.analysis.pages import drawing, environment
from training.analysis.plots import save
from training.analysis.style import COLOURS, DASHED, INK, STYLE, WIDTH
from training.analysis.words import seeds_span

WIDE = 4.0
"""Perplexities that differ more than so many times are drawn on a logarithmic axis."""
FIGURES = {
    "perplexity": (
        "Perplexity on real text",
        "Of each round's models, on real documents that nobody was trained on: the geometric mean of the seeds, and "
        "each as a pale dot. Dashed: real text alone, in another order each round: what it moves by is noise.",
    ),
    "rare_kept": (
        "Rare words kept",
        "Of the words that stand in the real text three times at most: those in what the arm wrote, over those that a "
        "chain of as many rounds of sampling alone would keep. Arms that see real text again may stand above 1.",
    ),
    "entropy": ("Entropy of words, bits", "It falls where a generator seeks the mode; pure sampling leaves it alone."),
    "distinct_3": ("Distinct three-grams", "It falls with repetition, and rises with noise."),
}


def colours(arms: Sequence[str]) -> dict[str, str]:
    return {BASELINE: INK} | {arm: COLOURS[place % len(COLOURS)] for place, arm in enumerate(arms)}


def draw(table: Mapping, directory: Path) -> list[str]:
    """Write the figures that the table has data for; their names, in reading order."""
    with plt.rc_context(STYLE):
        return [name for name in FIGURES if save(_lines(table, name), name, directory)]


def _lines(table: Mapping, figure: str) -> plt.Figure | None:
    found, colour = {}, colours(table["arms"])
    for row in table["rows"]:
        if row[figure] is not None:
            found.setdefault(row["arm"], []).append((row["round"], row[figure]))
    start = found.get(BASELINE, [])[:1] if figure == "perplexity" else []
    if not any(len(line) + len(start) > 1 for arm, line in found.items() if arm != BASELINE):
        return None
    drawn, axes = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
    for arm, line in found.items():
        if arm == BASELINE:
            style = {"linestyle": DASHED, "linewidth": 1}
        else:
            line, style = start + line, {"marker": "o", "markersize": 4, "linewidth": 1.7}
        axes.plot(*zip(*line, strict=True), color=colour[arm], label=arm, **style)
    if figure == "perplexity":
        for row in table["rows"]:
            if row["seeds"] > 1:
                dots = row["perplexities"]
                axes.plot([row["round"]] * len(dots), dots, ".", color=colour[row["arm"]], alpha=0.4, markersize=5)
    heights = [value for line in found.values() for _, value in line]
    if figure == "perplexity" and max(heights) > WIDE * min(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid()
    axes.set_xlabel("round")
    axes.legend()
    return drawn


def page(loop: Loop, table: Mapping, figures: Sequence[str], directory: Path, links: Mapping[str, str]) -> str:
    drawings = [drawing(*FIGURES[name], (directory / f"{name}.svg").read_text("utf-8")) for name in figures]
    template = environment().get_template("loop.html.j2")
    return template.render(
        loop=loop,
        table=table,
        figures=drawings,
        colours=colours(table["arms"]),
        links=links,
        seeds_span=seeds_span,
    )
