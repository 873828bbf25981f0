"""The report's figures: loss by mix, loss against real tokens with the efficiency read off, loss by position.

Each is written as SVG and PNG. Colours hold on white and on black; what is neutral is drawn in `INK`, which the HTML
page turns into its own text colour, so that one drawing serves light and dark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from training.scaling import Law
from training.table import short

INK = "#5b6470"
COLOURS = ("#e0822c", "#3f7fd6", "#2fa37c", "#b066c8", "#d9546a", "#8c8a2f", "#25a3b8", "#a8704c")
WIDTH = 6.0  # inches
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": INK,
    "grid.alpha": 0.18,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
}


def draw(table: Mapping, directory: Path) -> list[str]:
    """Write the figures that the table has data for; their names, in reading order."""
    drawn = []
    with plt.rc_context(STYLE):
        for name, plot in PLOTS.items():
            figure = plot(table)
            if figure is None:
                continue
            mpl.rcParams["svg.hashsalt"] = name  # element ids differ between figures and repeat between runs
            figure.savefig(directory / f"{name}.svg", transparent=True, metadata={"Date": None})
            figure.savefig(directory / f"{name}.png", dpi=160, facecolor="white", metadata={"Software": None})
            plt.close(figure)
            drawn.append(name)
    return drawn


def colours(table: Mapping) -> dict[str, str]:
    """One colour per mix, the same in every figure; real-only is drawn in ink."""
    others = [row["mix"] for row in table["mixes"] if row["mix"] != table["reference"]]
    return {table["reference"]: INK} | {mix: COLOURS[i % len(COLOURS)] for i, mix in enumerate(others)}


def _by_mix(table: Mapping) -> plt.Figure | None:
    rows = [row for row in table["mixes"] if row["loss_iid"] is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: -row["loss_iid"])
    colour = colours(table)
    figure, axes = plt.subplots(figsize=(WIDTH, 0.95 + 0.4 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        seeds = _seed_losses(table, row["mix"])
        axes.plot([row["loss_iid"]] * 2, [place - 0.24, place + 0.24], color=colour[row["mix"]], linewidth=3)
        axes.plot(seeds, [place] * len(seeds), "o", color=colour[row["mix"]], alpha=0.55, markersize=6)
    reference = [row["loss_iid"] for row in rows if row["mix"] == table["reference"]]
    for loss in reference:
        axes.axvline(loss, color=INK, linestyle=(0, (4, 4)), linewidth=1, alpha=0.7, zorder=0)
    labels = [row["mix"] + (f"  G={row['generations']}" if row["generations"] else "") for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(y=0.12)
    axes.grid(axis="x")
    axes.set_xlabel("validation loss, nats per token (dots: seeds)")
    return figure


def _by_tokens(table: Mapping) -> plt.Figure | None:
    references = table["references"]
    if not references:
        return None
    colour = colours(table)
    full = references[-1]["tokens"]
    figure, axes = plt.subplots(figsize=(WIDTH, 5.4), layout="constrained")
    for point in references:
        axes.plot([point["tokens"]] * len(point["losses"]), list(point["losses"].values()), "o", color=INK, alpha=0.4)
    means = [fmean(point["losses"].values()) for point in references]
    axes.plot([p["tokens"] for p in references], means, "o", color=INK, markersize=8, label="real-only")
    reach = [row["efficiency"] for row in table["mixes"] if row["efficiency"] and row["efficiency"] < 20]
    furthest = full * max([1.3, *(1.15 * value for value in reach)])
    law = Law(**table["law"]) if table["law"] else None
    if law:
        inside = np.geomspace(references[0]["tokens"], full, 100)
        beyond = np.geomspace(full, furthest, 100)
        axes.plot(inside, [law.loss(t) for t in inside], color=INK, linewidth=1.8)
        axes.plot(beyond, [law.loss(t) for t in beyond], color=INK, linewidth=1.4, linestyle=(0, (5, 4)))
    mixes = [row for row in table["mixes"] if row["mix"] != table["reference"] and row["loss_iid"] is not None]
    for row in mixes:
        _read_off(axes, row, full, law, colour[row["mix"]])
    axes.set_xscale("log")
    ticks = sorted({point["tokens"] for point in references} | ({full * 2} if furthest >= full * 2 else set()))
    axes.set_xticks(ticks, [short(t) for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid()
    axes.set_xlabel("real tokens (log scale; the law is dashed where it is extrapolated)")
    axes.set_ylabel("validation loss, nats per token")
    axes.legend(loc="upper right")
    return figure


def _read_off(axes: plt.Axes, row: Mapping, full: float, law: Law | None, colour: str) -> None:
    """A mix at its loss above D, and the way along to the law: where that ends, D' can be read."""
    told = row["verdict"] == "resolved"
    label = row["mix"] + (f"  {row['efficiency']:.2f}x" if told else "  not resolved")
    if row["verdict"] == "beyond floor":
        label = f"{row['mix']}  at least {row['efficiency_low']:.2f}x"
    axes.plot([full], [row["loss_iid"]], "D", color=colour, markersize=7, label=label, zorder=3)
    if law and told:
        end = row["efficiency"] * full
        axes.plot([full, end], [row["loss_iid"]] * 2, color=colour, linewidth=1.6)
        axes.plot(
            [end], [row["loss_iid"]], "o", color=colour, markersize=7, markerfacecolor="none", markeredgewidth=1.8
        )


def _by_position(table: Mapping) -> plt.Figure | None:
    losses: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    known = {row["mix"] for row in table["mixes"]}
    for run in table["runs"]:
        for bucket in run.get("by_position", []):
            if run["recipe"] in known and bucket["tokens"]:
                losses[run["recipe"]][bucket["first"]].append(bucket["loss"])
    if not losses:
        return None
    colour = colours(table)
    figure, axes = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    for mix in (row["mix"] for row in table["mixes"] if row["mix"] in losses):
        places = sorted(losses[mix])
        means = [fmean(losses[mix][place]) for place in places]
        axes.plot(places, means, "o-", color=colour[mix], label=mix, linewidth=1.8, markersize=4.5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid()
    axes.set_xlabel("position in the document, tokens (buckets of powers of two, from)")
    axes.set_ylabel("validation loss, nats per token")
    axes.legend(ncols=2)
    return figure


def _by_generations(table: Mapping) -> plt.Figure | None:
    """Only for a study that varies G: a layout and strategy at two values of it or more."""
    families = defaultdict(dict)
    for row in table["mixes"]:
        if row["generations"] and row["loss_iid"] is not None:
            families[row["layout"], row["strategy"]][row["generations"]] = row
    families = {family: rows for family, rows in families.items() if len(rows) > 1}
    if not families:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
    for place, ((layout, strategy), rows) in enumerate(families.items()):
        counts, colour = sorted(rows), COLOURS[place % len(COLOURS)]
        means = [rows[g]["loss_iid"] for g in counts]
        axes.plot(counts, means, "o-", color=colour, label=f"{layout}, {strategy}", linewidth=1.8)
        for g in counts:
            seeds = _seed_losses(table, rows[g]["mix"])
            axes.plot([g] * len(seeds), seeds, "o", color=colour, alpha=0.4, markersize=4)
    for row in table["mixes"]:
        if row["mix"] == table["reference"] and row["loss_iid"] is not None:
            axes.axhline(row["loss_iid"], color=INK, linestyle=(0, (4, 4)), linewidth=1, label="real-only")
    ticks = sorted({g for rows in families.values() for g in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(g) for g in ticks])
    axes.grid()
    axes.set_xlabel("generations per document, G")
    axes.set_ylabel("validation loss, nats per token")
    axes.legend()
    return figure


def _seed_losses(table: Mapping, mix: str) -> list[float]:
    return [run["losses"]["iid"] for run in table["runs"] if run["recipe"] == mix]


PLOTS = {
    "loss-by-tokens": _by_tokens,
    "loss-by-mix": _by_mix,
    "loss-by-position": _by_position,
    "loss-by-generations": _by_generations,
}
