"""What all figures share: colours that hold on white and on black, the words of their axes.

What is neutral is drawn in `INK`, which the HTML page turns into its own text colour, so that one drawing serves light
and dark. Mixes of one family (alike but for G) have one colour.
"""

from __future__ import annotations

from collections.abc import Mapping

INK = "#5b6470"
COLOURS = ("#e0822c", "#3f7fd6", "#2fa37c", "#b066c8", "#d9546a", "#8c8a2f", "#25a3b8", "#a8704c")
WIDTH = 6.0  # inches
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": INK,
    "grid.alpha": 0.18,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
DASHED = (0, (4, 4))
LOSS = "validation loss, nats per token"


def colours(table: Mapping) -> dict[str, str]:
    """One colour per mix, by its family, the same in every figure; the reference is drawn in ink."""
    families = dict.fromkeys(row["family"] for row in table["mixes"] if row["mix"] != table["reference"])
    own = {family: COLOURS[i % len(COLOURS)] for i, family in enumerate(families)}
    return {row["mix"]: INK if row["mix"] == table["reference"] else own[row["family"]] for row in table["mixes"]}


def seed_losses(table: Mapping, mix: str, name: str) -> list[float]:
    found = [run["losses"].get(name) for run in table["runs"] if run["recipe"] == mix]
    return [loss for loss in found if loss is not None]


def reference_line(line, table: Mapping, name: str) -> None:
    for row in table["mixes"]:
        if row["mix"] == table["reference"] and row[f"loss_{name}"] is not None:
            line(row[f"loss_{name}"], color=INK, linestyle=DASHED, linewidth=1, alpha=0.8, zorder=0, label="real-only")
