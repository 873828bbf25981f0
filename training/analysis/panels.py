"""Figures of several panels: loss and gap along an axis of the study, loss by ensemble size, what a search tried."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator

from training.analysis.laws import Law
from training.analysis.style import COLOURS, DASHED, INK, LOSS, WIDTH, colours, reference_line, seed_losses
from training.analysis.words import SETS, short
from training.points import Point

SETTINGS = Point._fields
ALONG = {
    "generations": "generations per document, G",
    "parameters": "parameters, embeddings included",
    "context": "context, tokens",
    "batch_tokens": "tokens per batch",
    "epochs": "passes over the real text",
    "f": "synthetic share f",
    "lr": "learning rate",
    "weight_decay": "weight decay",
}


def along(axis: str):
    """Loss of every series along an axis, a panel per held-out set; for G and parameters with its law."""

    def plot(table: Mapping) -> plt.Figure | None:
        lines = [line for line in table["series"] if line["axis"] == axis and line["kind"] != "real"]
        lines += [line for line in table["series"] if line["axis"] == axis and line["kind"] == "real"]
        sets = [name for name in table["sets"] if name != "short" and _has(table, lines, name)]
        if not lines or not sets:
            return None
        rows, colour = {row["mix"]: row for row in table["mixes"]}, colours(table)
        figure, panels = _panels(len(sets))
        for axes, name in zip(panels, sets, strict=True):
            for place, line in enumerate(lines):
                own = colour[line["mixes"][-1]] if axis == "generations" or len(lines) < 3 else COLOURS[place % 8]
                drawn = [(x, m) for x, m in zip(line["values"], line["mixes"], strict=True)]
                drawn = [(x, m) for x, m in drawn if rows[m][f"loss_{name}"] is not None]
                means = [rows[mix][f"loss_{name}"] for _, mix in drawn]
                axes.plot([x for x, _ in drawn], means, "o-", color=own, label=line["name"], linewidth=1.8)
                for x, mix in drawn:
                    seeds = seed_losses(table, mix, name)
                    axes.plot([x] * len(seeds), seeds, "o", color=own, alpha=0.4, markersize=4)
            if axis == "generations":
                reference_line(axes.axhline, table, name)
            axes.set_title(SETS.get(name, name), loc="left")
            _log_ticks(axes, sorted({x for line in lines for x in line["values"]}))
        _finish(figure, panels, ALONG[axis], LOSS)
        return figure

    return plot


def _has(table: Mapping, lines: list, name: str) -> bool:
    used = {mix for line in lines for mix in line["mixes"]}
    return any(row[f"loss_{name}"] is not None for row in table["mixes"] if row["mix"] in used)


def gap(axis: str):
    """What a layout gains on simple along an axis, with intervals, a panel per held-out set."""

    def plot(table: Mapping) -> plt.Figure | None:
        found = [gap for gap in table["gaps"] if gap["axis"] == axis and len(gap["points"]) > 1]
        sets = [name for name in table["sets"] if name != "short" and any(gap["set"] == name for gap in found)]
        if not sets:
            return None
        colour = colours(table)
        figure, panels = _panels(len(sets))
        for axes, name in zip(panels, sets, strict=True):
            own = [gap for gap in found if gap["set"] == name]
            axes.axhline(0, color=INK, linestyle=DASHED, linewidth=1)
            for place, gap in enumerate(own):
                x = np.array([point["x"] for point in gap["points"]]) * 1.04 ** (place - (len(own) - 1) / 2)
                y = [point["gap"] for point in gap["points"]]
                bars = [point["margin"] or 0 for point in gap["points"]]
                shade = colour[gap["points"][-1]["mix"]]
                label = gap["layout"] if len({g["against"] for g in own}) == 1 else f"{gap['layout']}, {gap['against']}"
                axes.errorbar(x, y, bars, fmt="o-", color=shade, label=label, linewidth=1.6, elinewidth=1, capsize=2.5)
            axes.set_title(SETS.get(name, name), loc="left")
            _log_ticks(axes, sorted({point["x"] for gap in own for point in gap["points"]}))
        _finish(figure, panels, ALONG[axis], "nats below simple")
        return figure

    return plot


def by_members(table: Mapping) -> plt.Figure | None:
    """Loss of ensembles by their size, with the law through it: dashed where there is something to hold against it."""
    if not table["ensembles"]:
        return None
    sets = [
        n for n in table["sets"] if n != "short" and any(r["set"] == n for v in table["ensembles"].values() for r in v)
    ]
    colour, fits = colours(table), {(law["of"], law["set"]): law for law in table["laws"] if law["in"] == "K"}
    figure, panels = _panels(len(sets))
    for axes, name in zip(panels, sets, strict=True):
        for mix, rows in table["ensembles"].items():
            own = [row for row in rows if row["set"] == name]
            x = [row["members"] for row in own]
            axes.plot(x, [row["loss"] for row in own], "o", color=colour[mix], label=mix)
            ends = [row["lowest"] for row in own], [row["highest"] for row in own]
            axes.vlines(x, *ends, color=colour[mix], alpha=0.4, linewidth=3)
            if law := fits.get((mix, name)):
                dense = np.geomspace(min(x), max(x), 60)
                style = {"linestyle": DASHED} if law["fit"]["problem"] else {}
                losses = [Law(**law["fit"]["law"]).loss(k) for k in dense]
                axes.plot(dense, losses, color=colour[mix], linewidth=1.5, **style)
        axes.set_title(SETS.get(name, name), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(figure, panels, "members of the ensemble, K", LOSS)
    return figure


def by_search(table: Mapping) -> plt.Figure | None:
    """Loss of a search's points along each axis through the best one, a panel per axis, a line per recipe."""
    points = table["searched"].get("points", {})
    lines = {axis: {recipe: _through_best(own, axis) for recipe, own in points.items()} for axis in SETTINGS}
    lines = {axis: {r: line for r, line in found.items() if len(line) > 1} for axis, found in lines.items()}
    lines = {axis: found for axis, found in lines.items() if found}
    if not lines:
        return None
    colour = colours(table)
    figure, panels = _panels(len(lines))
    for axes, (axis, found) in zip(panels, lines.items(), strict=True):
        ticks = sorted({point[axis] for line in found.values() for point in line})
        for recipe, line in found.items():
            shade = colour.get(recipe, INK)
            x, y = [ticks.index(point[axis]) for point in line], [point["loss"] for point in line]
            axes.plot(x, y, ".-", color=shade, label=recipe, linewidth=1.4, alpha=1 if recipe in colour else 0.5)
            best = next(place for place, point in enumerate(line) if point["best"])
            axes.plot(x[best], y[best], "o", color=shade, markersize=8, markerfacecolor="none")
        axes.set_title(ALONG[axis], loc="left")
        axes.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
    _finish(figure, panels, "", LOSS)
    if len(points) > 8:
        panels[0].get_legend().remove()
    return figure


def _through_best(points: list[Mapping], axis: str) -> list[Mapping]:
    """The points that differ from the best one along the axis alone, in its order; diverged ones are no point."""
    best = next((point for point in points if point["best"]), None)
    if best is None:
        return []
    alike = [p for p in points if p["loss"] is not None and all(p[a] == best[a] for a in SETTINGS if a != axis)]
    return sorted(alike, key=lambda point: point[axis])


def _panels(count: int) -> tuple[plt.Figure, list[plt.Axes]]:
    columns = min(count, 3)
    rows, width = -(-count // columns), {1: WIDTH, 2: 10.0, 3: 12.6}[columns]  # more than one: across the page
    figure, axes = plt.subplots(rows, columns, figsize=(width, 3.6 * rows), layout="constrained", squeeze=False)
    for unused in axes.flat[count:]:
        unused.set_visible(False)
    return figure, list(axes.flat[:count])


def _finish(figure: plt.Figure, panels: list[plt.Axes], x: str, y: str) -> None:
    for axes in panels:
        axes.grid()
        axes.yaxis.set_major_locator(MaxNLocator(6))
    figure.supxlabel(x, fontsize=10.5, color=INK)
    figure.supylabel(y, fontsize=10.5, color=INK)
    panels[0].legend()


def _log_ticks(axes: plt.Axes, ticks: list[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [short(t) if t >= 1000 else f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
