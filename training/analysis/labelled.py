"""Figures, page and Markdown of a labelled study's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

from training.analysis.pages import drawing, environment
from training.analysis.plots import save
from training.analysis.style import COLOURS, DASHED, INK, STYLE, WIDTH

BASE, OWN, REAL = INK, COLOURS[0], COLOURS[2]
FIGURES = {
    "arms": (
        "Balanced accuracy on real test items",
        "Means over seeds; bars: one standard deviation between them. Oversampling is what generated items must beat.",
    ),
    "curve": (
        "What each further item is worth",
        "By the share of the deficit that verified items fill. 0% is oversampling; beyond a cell's cap it is measured "
        "and never published as data.",
    ),
    "coverage": (
        "Coverage",
        "Training items by cell: real ones, those to be generated, and what is left to collect.",
    ),
}
CARD = (
    ("balanced_accuracy", "balanced accuracy"),
    ("worst_cell_recall", "worst cell"),
    ("tail_recall", "short cells"),
    ("head_recall", "other cells"),
    ("head_change", "their change"),
    ("ece", "ECE"),
)


def draw(table: Mapping, directory: Path) -> list[str]:
    """Write the figures; their names, in reading order."""
    plots = {"arms": _arms, "curve": _curve, "coverage": _coverage}
    with plt.rc_context(STYLE):
        return [name for name in FIGURES if save(plots[name](table), name, directory)]


def _arms(table: Mapping) -> plt.Figure:
    rows = table["arms"][::-1]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.8 + 0.38 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        colour = {"verified": OWN, "real": REAL}.get(row["arm"], BASE)
        axes.errorbar(
            row["balanced_accuracy"], place, xerr=row["balanced_accuracy_sd"], fmt="o", color=colour, capsize=3
        )
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.margins(y=0.12)
    axes.grid(axis="x")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return figure


def _curve(table: Mapping) -> plt.Figure | None:
    points, arms = table["curve"], {row["arm"]: row for row in table["arms"]}
    if len({point["added"] for point in points}) < 2:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    shares, means = [point["share"] for point in points], [point["balanced_accuracy"] for point in points]
    sds = [point["balanced_accuracy_sd"] or 0 for point in points]
    axes.errorbar(shares, means, yerr=sds, fmt="o-", color=OWN, capsize=3, label="verified items")
    for arm, colour in (("oversampled", BASE), ("real", REAL)):
        if arm in arms:
            axes.axhline(arms[arm]["balanced_accuracy"], color=colour, linestyle=DASHED, label=arms[arm]["title"])
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("share of the deficit filled")
    axes.set_ylabel("balanced accuracy")
    axes.grid()
    axes.legend()
    return figure


def _coverage(table: Mapping) -> plt.Figure:
    cells = table["cells"][::-1]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.27 * len(cells)), layout="constrained")
    left = [0.0] * len(cells)
    for key, label, colour in (("real", "real", REAL), ("planned", "to generate", OWN), ("lack", "to collect", BASE)):
        counts = [cell["deficit"] - cell["planned"] if key == "lack" else cell[key] for cell in cells]
        axes.barh(range(len(cells)), counts, left=left, color=colour, alpha=0.35 if key == "lack" else 1, label=label)
        left = [before + count for before, count in zip(left, counts, strict=True)]
    axes.set_yticks(range(len(cells)), [cell["cell"] for cell in cells])
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def page(table: Mapping, figures: Sequence[str], directory: Path, links: Mapping[str, str]) -> str:
    drawings = [drawing(*FIGURES[name], (directory / f"{name}.svg").read_text("utf-8")) for name in figures]
    return environment().get_template("labelled.html.j2").render(
        table=table, figures=drawings, links=links, card=CARD, shown=shown, facts=facts(table)
    )  # fmt: skip


def shown(row: Mapping, name: str) -> str:
    """Percent, or points for a change, with the deviation between seeds."""
    value, sd = row.get(name), row.get(f"{name}_sd")
    if value is None:
        return "–"
    told = f"{100 * value:+.1f}" if name == "head_change" else f"{100 * value:.1f}"
    return told if sd is None else f"{told} ± {100 * sd:.1f}"


def facts(table: Mapping) -> list[tuple[str, str]]:
    """What else was measured, as (name, sentence)."""
    found, told = table["fidelity"], []
    if found.get("tstr") is not None:
        text = (
            f"Trained on accepted items alone, real test items of their labels are told apart at {found['tstr']:.1%}; "
            f"trained on the real ones, at {found['trtr']:.1%}. Trained on real items, accepted ones are told apart at "
            f"{found['trts']:.1%}."
        )
        told.append(("TSTR, TRTS", text))
    for label, one in found["c2st"].items():
        text = one.get("why") or (
            f"A classifier tells accepted from real items with AUC {one['auc']:.3f}, {one['auc'] - one['null']:+.3f} "
            f"from real against real ({one['null']:.3f} ± {one['null_sd']:.3f}, {one['items']:.0f} items a side)."
        )
        told.append((f"C2ST, {label}", text))
    for arm, one in table["noise"].items():
        text = one.get("why") or (
            f"{one['estimate']:.1%} of all labels look wrong, {one['generated']:.1%} of the generated items'"
            + (f"; {one['planted']:.1%} of these were planted." if "planted" in one else ".")
        )
        told.append((f"Label noise, {arm}", text))
    verifier = table["verifier"]
    if "kept_good" in verifier:
        text = f"It accepts {verifier['kept_good']:.1%} of the drafts that are not planted faults"
        gone = verifier.get("dropped_planted")
        told.append(
            ("Verifier", text + (f", and turns {gone:.1%} of the planted ones away." if gone is not None else "."))
        )
    return told


def markdown(table: Mapping) -> str:
    """The whole card in Markdown."""
    seeds = len(table["seeds"])
    lines = [f"# {table['study']}: labelled data", f"**{table['headline']}**", table["description"], "## Coverage plan"]
    columns = ("found", "test", "validation", "real", "held_back", "deficit", "cap", "planned")
    cells = [[cell["cell"], *(f"{cell[name]:,}" for name in columns), cell["why"]] for cell in table["cells"]]
    lines.append(_rows(["cell", *(name.replace("_", " ") for name in columns), "plan"], cells))
    lines += ["## Report card", f"On real test items, percent, mean ± deviation between {seeds} seeds."]
    arms = [[row["title"], f"{row['added']:,.0f}", *(shown(row, name) for name, _ in CARD)] for row in table["arms"]]
    lines.append(_rows(["arm", "added", *(title for _, title in CARD)], arms))
    lines += ["## Marginal value", "Verified items, by the share of the deficit that they fill."]
    names = ("balanced_accuracy", "worst_cell_recall", "tail_recall", "head_recall", "ece")
    points = [[f"{p['share']:.0%}", f"{p['added']:,.0f}", *(shown(p, name) for name in names)] for p in table["curve"]]
    lines.append(_rows(["filled", "added", *(title for key, title in CARD if key in names)], points))
    lines += [
        "## Gates",
        "\n".join(f"* {v['gate']} {v['outcome'].replace('_', ' ')}: {v['sentence']}." for v in table["verdicts"]),
    ]
    lines += ["## Also measured", "\n".join(f"* {name}: {text}" for name, text in facts(table))]
    return "\n\n".join(lines) + "\n"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])
