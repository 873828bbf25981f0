"""The report's figures. Each draws one section of the table, or nothing where the study has no such section.

Each is written as SVG and PNG, the same bytes every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from training.analysis.laws import Law
from training.analysis.panels import ALONG, along, by_members, by_search, gap
from training.analysis.style import DASHED, INK, LOSS, STYLE, WIDTH, colours, reference_line, seed_losses
from training.analysis.words import describe, short


def draw(table: Mapping, directory: Path) -> list[str]:
    """Write the figures that the table has data for; their names, in reading order."""
    with plt.rc_context(STYLE):
        return [name for name, plot in PLOTS.items() if save(plot(table), name, directory)]


def save(figure: plt.Figure | None, name: str, directory: Path) -> bool:
    """Write a figure as SVG and PNG, the same bytes every time; False if there is none."""
    if figure is None:
        return False
    mpl.rcParams["svg.hashsalt"] = name  # element ids differ between figures and repeat between runs
    figure.savefig(directory / f"{name}.svg", transparent=True, metadata={"Date": None})
    figure.savefig(directory / f"{name}.png", dpi=160, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return True


def _by_mix(table: Mapping) -> plt.Figure | None:
    rows = [row for row in table["mixes"] if row["loss_iid"] is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: -row["loss_iid"])
    colour = colours(table)
    figure, axes = plt.subplots(
        figsize=(WIDTH, 0.95 + max(0.24, 0.4 - 0.008 * len(rows)) * len(rows)), layout="constrained"
    )
    for place, row in enumerate(rows):
        seeds = seed_losses(table, row["mix"], "iid")
        axes.plot([row["loss_iid"]] * 2, [place - 0.24, place + 0.24], color=colour[row["mix"]], linewidth=3)
        axes.plot(seeds, [place] * len(seeds), "o", color=colour[row["mix"]], alpha=0.55, markersize=6)
    reference_line(axes.axvline, table, "iid")
    labels = [row["mix"] + (f"  G={row['generations']}" if row["generations"] else "") for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(y=0.12 if len(rows) < 8 else 0.03)
    axes.grid(axis="x")
    axes.set_xlabel(f"{LOSS} (dots: seeds)")
    return figure


def _by_tokens(table: Mapping) -> plt.Figure | None:
    references = table["references"]
    if not references:
        return None
    colour = colours(table)
    largest = references[-1]["tokens"]
    figure, axes = plt.subplots(figsize=(WIDTH, 5.4), layout="constrained")
    for point in references:
        axes.plot([point["tokens"]] * len(point["losses"]), list(point["losses"].values()), "o", color=INK, alpha=0.4)
    means = [fmean(point["losses"].values()) for point in references]
    axes.plot([p["tokens"] for p in references], means, "o", color=INK, markersize=8, label="real-only")
    mixes = _best_of_families(table)
    reach = [row["efficiency"] * row["real_tokens"] for row in mixes if row["efficiency"] and row["efficiency"] < 20]
    furthest = max([1.3 * largest, *(1.15 * tokens for tokens in reach)])
    law = Law(**table["law"]) if table["law"] else None
    if law:
        inside = np.geomspace(references[0]["tokens"], largest, 100)
        beyond = np.geomspace(largest, furthest, 100)
        held = next((one["fit"]["problem"] for one in table["laws"] if one["in"] == "D"), "")
        label = "its law" + (" (see Laws: to bear in mind)" if held else "")
        axes.plot(inside, [law.loss(t) for t in inside], color=INK, linewidth=1.8, label=label)
        axes.plot(beyond, [law.loss(t) for t in beyond], color=INK, linewidth=1.4, linestyle=(0, (5, 4)))
    for row in mixes:
        _read_off(axes, row, law, colour[row["mix"]])
    axes.set_xscale("log")
    ticks = sorted({point["tokens"] for point in references} | ({largest * 2} if furthest >= largest * 2 else set()))
    axes.set_xticks(ticks, [short(t) for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid()
    axes.set_xlabel("real tokens (log scale; the law is dashed where it is extrapolated)")
    axes.set_ylabel(LOSS)
    axes.legend(loc="upper right")
    return figure


def _read_off(axes: plt.Axes, row: Mapping, law: Law | None, colour: str) -> None:
    """A mix at its loss above D, and the way along to the law: where that ends, D' can be read."""
    told = row["verdict"] == "resolved"
    label = f"{row['mix']}  {describe(row)}"
    own = row["real_tokens"]
    axes.plot([own], [row["loss_iid"]], "D", color=colour, markersize=7, label=label, zorder=3)
    if law and told:
        end = row["efficiency"] * own
        axes.plot([own, end], [row["loss_iid"]] * 2, color=colour, linewidth=1.6)
        axes.plot(
            [end], [row["loss_iid"]], "o", color=colour, markersize=7, markerfacecolor="none", markeredgewidth=1.8
        )


def _buckets(key: str, label: str):
    """What each family's best mix gains on the reference, by bucket: the reference is the line at 0."""

    def plot(table: Mapping) -> plt.Figure | None:
        means = {recipe: _bucket_means(table, recipe, key) for recipe in {run["recipe"] for run in table["runs"]}}
        base = means.get(table["reference"])
        rows = [row for row in _best_of_families(table) if means.get(row["mix"])]
        if not base or not rows:
            return None
        colour = colours(table)
        figure, axes = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
        axes.axhline(0, color=INK, linestyle=DASHED, linewidth=1)
        for row in rows:
            places = sorted(base.keys() & means[row["mix"]].keys())
            gains = [base[place] - means[row["mix"]][place] for place in places]
            axes.plot(places, gains, "o-", color=colour[row["mix"]], label=row["mix"], linewidth=1.8, markersize=4.5)
        _powers(axes)
        axes.set_xlabel(label)
        axes.set_ylabel("nats below real-only")
        axes.legend(ncols=2)
        return figure

    return plot


def _bucket_means(table: Mapping, recipe: str, key: str) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for run in table["runs"]:
        for bucket in run.get(key, []) if run["recipe"] == recipe else ():
            if bucket["tokens"]:
                found.setdefault(bucket["first"], []).append(bucket["loss"])
    return {first: fmean(losses) for first, losses in found.items()}


def _by_flops(table: Mapping) -> plt.Figure | None:
    """Loss against what training took: the lower left is where one wants to be."""
    rows = [row for row in table["mixes"] if row["loss_iid"] is not None and row["flops"]]
    if len({row["flops"] for row in rows}) < 2:
        return None
    colour = colours(table)
    figure, axes = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
    for family in dict.fromkeys(row["family"] for row in rows):
        own = sorted((row for row in rows if row["family"] == family), key=lambda row: row["flops"])
        places = [row["flops"] for row in own], [row["loss_iid"] for row in own]
        axes.plot(*places, "o", color=colour[own[0]["mix"]], label=family, markersize=6)
        for row in own if len(own) > 1 else ():
            note = f"{row['generations']}" if row["generations"] else ""
            axes.annotate(note, (row["flops"], row["loss_iid"]), (5, 3), textcoords="offset points", fontsize=8.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid()
    axes.set_xlabel("training FLOPs of one run (numbers: G)")
    axes.set_ylabel(LOSS)
    axes.legend()
    return figure


def _best_of_families(table: Mapping) -> list[Mapping]:
    """The mix with the lowest loss of each family but the reference."""
    best: dict[str, Mapping] = {}
    for row in table["mixes"]:
        if row["mix"] == table["reference"] or row["loss_iid"] is None:
            continue
        if row["family"] not in best or row["loss_iid"] < best[row["family"]]["loss_iid"]:
            best[row["family"]] = row
    return list(best.values())


def _powers(axes: plt.Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid()


PLOTS = {
    "loss-by-tokens": _by_tokens,
    "loss-by-mix": _by_mix,
    **{f"loss-by-{axis.replace('_', '-')}": along(axis) for axis in ALONG},
    **{f"gap-by-{axis.replace('_', '-')}": gap(axis) for axis in ALONG},
    "gain-by-position": _buckets("by_position", "position in the document, tokens (from, by powers of two)"),
    "gain-by-length": _buckets("by_length", "length of the document, tokens (from, by powers of two)"),
    "loss-by-members": by_members,
    "loss-by-flops": _by_flops,
    "loss-by-search": by_search,
}
