"""The same mixes over the reports of a study: what a change of corpus, prompt or code has made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from training.analysis.plots import save
from training.analysis.style import COLOURS, DASHED, INK, LOSS, STYLE, WIDTH

EFFICIENCY = ("efficiency", "efficiency_low", "efficiency_high")


def as_table(reports: Sequence[Mapping]) -> dict[str, list]:
    """Columns of one row per report and mix: when, which commit, its loss and what it was worth.

    ``efficiency`` is null and its low or high end is not where there was no law, or a loss below its floor. ``caveat``
    is what the figure hangs on, ``law`` the law it was read off; both null where an older report recorded neither.
    """
    rows = [
        {
            "report": report["name"],
            "time": report["time"],
            "commit": report["commit"],
            "mix": mix,
            "loss": report["metrics"].get(f"loss/{mix}"),
            "loss_long": report["metrics"].get(f"loss_long/{mix}"),
            **{key: report["metrics"].get(f"{key}/{mix}") for key in EFFICIENCY},
            "caveat": None if report["caveats"] is None else report["caveats"].get(mix, ""),
            "law": report["law"],
        }
        for report in reports
        for mix in _mixes(report)
    ]
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}


def draw(reports: Sequence[Mapping], reference: str, directory: Path) -> bool:
    """Write history.svg and history.png: i.i.d. loss of every mix, report by report."""
    mixes = list(dict.fromkeys(mix for report in reports for mix in _mixes(report)))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH * 1.35, 4.2), layout="constrained")
        for place, mix in enumerate(mixes):
            known = [(x, r["metrics"][f"loss/{mix}"]) for x, r in enumerate(reports) if f"loss/{mix}" in r["metrics"]]
            style = (
                {"color": INK, "linestyle": DASHED} if mix == reference else {"color": COLOURS[place % len(COLOURS)]}
            )
            axes.plot(*zip(*known, strict=True), marker="o", markersize=4.5, linewidth=1.6, label=mix, **style)
        axes.set_xticks(range(len(reports)), [f"{r['time'][:10]}\n{r['commit'][:7]}" for r in reports], fontsize=8.5)
        axes.grid()
        axes.set_ylabel(LOSS)
        figure.legend(loc="outside right upper")
        return save(figure, "history", directory)


def _mixes(report: Mapping) -> list[str]:
    return sorted(name.removeprefix("loss/") for name in report["metrics"] if name.startswith("loss/"))
