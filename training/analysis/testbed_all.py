"""``docs/results/selection.md``: every way to select on every testbed, each against as many examples by lot.

Written with each testbed's own page, from what is measured of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from palimpsest.lake import Facts, Lake, Published
from training.analysis.markdown import rows_of
from training.analysis.paired import half_width
from training.analysis.style import COLOURS, INK
from training.analysis.testbed import read
from training.analysis.testbed_figures import draw
from training.analysis.testbed_seeds import less, over_seeds, values

CODE = tuple(
    f"training/analysis/{name}.py"
    for name in (
        "markdown",
        "paired",
        "plots",
        "style",
        "testbed",
        "testbed_all",
        "testbed_figures",
        "testbed_seeds",
    )  # fmt: skip
)
NAME = "selection"
RANDOM = "random"
DIGITS = "digits"
ASKED = {DIGITS: 10, "docs": 5, "web": 5, "translations": 5}
"""By testbed the seeds that are asked for, in the order of the columns."""
WAYS: dict[str, tuple[str | None, str | None]] = {
    "oracle": ("oracle: good and real", "oracle"),
    "no selection: all of it": ("no selection", "everything"),
    "log-probability": (None, "log-probability"),
    "Aux-Clf(Val)": ("Aux-Clf(Val), ranked", None),
    "classifier": (None, "classifier"),
    "commonness": (None, "commonness"),
    "rank average": (None, "rank average"),
    "Meta-rater, trigrams": (None, "Meta-rater, trigrams"),
    "influence": (None, "influence"),
    "Learning to Reweight": ("Learning to Reweight 256", "Learning to Reweight"),
    "loss alone, N = 64": ("loss alone 64/64", "loss alone 64"),
    "loss alone, N = 256": ("loss alone 256/256", "loss alone 256"),
    "loss alone, N = 1024": ("loss alone 1024/1024", "loss alone 1024"),
    "MTS, no floor, N = 64": ("MTS 64/64", None),
    "MTS, no floor, N = 256": ("MTS 256/256", None),
    "MTS, no floor, N = 1024": ("MTS 1024/1024", None),
    "MTS, N = 64": ("MTS 64/64, floor", "MTS 64"),
    "MTS, N = 256": ("MTS 256/256, floor", "MTS 256"),
    "MTS, N = 1024": ("MTS 1024/1024, floor", "MTS 1024"),
    "PVM, alpha 0.1": ("PVM, alpha 0.1", "PVM, alpha 0.1"),
    "PVM, alpha 1": ("PVM, alpha 1", "PVM, alpha 1"),
}
"""By its name here, an arm of digits and of the testbeds of texts."""
BOUNDS = ("oracle", "no selection: all of it")
"""No ways to select: they know the grades, or have no budget."""
MTS = "MTS, N = 1024"
ABOUT = (
    "How much better a learner does on what a way to select prefers than on as many examples drawn by lot, paired "
    "seed by seed: points of accuracy for digits (retrained from scratch on 35% of the generated, and the real), per "
    "cent of perplexity for texts (a word trigram of half the words); above 0 is better. Means over seeds, in "
    "brackets the 95% interval of the mean (Student's) and, where they are fewer than asked for, the seeds. All of "
    "the texts is twice the words of every other line. Of digits the learner's batch is N too, as in the paper; of "
    "texts it is 64 for every N, so that N alone changes (but 256 for Learning to Reweight). MTS has a floor of 0.05 "
    "unless it says otherwise, the loss alone (Meta-Weight-Net) has none. Aux-Clf ranks images by the probability "
    "that a classifier of the target gives their label, the classifier of texts by the odds of being real. Proxies of "
    "Meta-rater are the trigrams that judge all arms of texts, which no other way has met."
)

Gains = Mapping[str, Mapping[int, float]]
"""By way and seed."""
Rows = Sequence[Mapping]


def report(lake: Lake, measured: Mapping[str, tuple[Sequence[Published], str]]) -> Published:
    """``testbeds/report``: the page; ``measured`` has by testbed its parts, and a sentence on missing ones."""
    parents = [part for parts, _ in measured.values() for part in parts]
    missing = {name: said for name, (_, said) in measured.items() if said}

    def write(directory: Path) -> Facts:
        found = {name: gains(name, _arms(parts)) for name, (parts, _) in measured.items()}
        (directory / NAME).mkdir()
        draw({"gains": ("", "", _figure)}, found, directory / NAME)
        (directory / f"{NAME}.md").write_text(render(found, missing), encoding="utf-8")
        return Facts(extra={"page": NAME, "headline": headline(found)})

    return lake.publish("testbeds/report", write, config={"missing": missing}, parents=parents, code=CODE)


def gains(testbed: str, rows: Rows) -> Gains:
    """By way and seed what it is better than chance: points of accuracy of digits, else per cent of perplexity."""
    column = 0 if testbed == DIGITS else 1
    found = values(rows, "arm", "retrained" if testbed == DIGITS else "perplexity") if rows else {}
    chance = found.get(RANDOM, {})

    def better(own: float, by_lot: float) -> float:
        return 100 * (own - by_lot if testbed == DIGITS else 1 - own / by_lot)

    own = {
        way: {
            seed: better(value, chance[seed]) for seed, value in found.get(arms[column], {}).items() if seed in chance
        }
        for way, arms in WAYS.items()
    }
    return {way: by_seed for way, by_seed in own.items() if by_seed}


def best(found: Gains) -> tuple[str, float] | None:
    """The way of the largest mean gain."""
    means = {way: over_seeds(own).mean() for way, own in found.items() if way not in BOUNDS}
    return max(means.items(), key=lambda pair: pair[1]) if means else None


def headline(found: Mapping[str, Gains]) -> str:
    """By testbed the way that is best, and where MTS is."""
    told = []
    for name, own in found.items():
        if won := best(own):
            mts = f" (MTS {over_seeds(own[MTS]).mean():+.1f})" if MTS in own and won[0] != MTS else ""
            told.append(f"{name}: {won[0]} {won[1]:+.1f}{mts}")
    if not told:
        return "Nothing is measured yet."
    return f"Best of as many examples, against as many by lot: {'; '.join(told)}."


def margins(found: Mapping[str, Gains]) -> list[dict]:
    """Of MTS at the largest N, by testbed: what it is better than no selection, and than the best way of all others."""
    rows = []
    for name, own in found.items():
        others = {way: by_seed for way, by_seed in own.items() if not way.startswith("MTS")}
        if MTS in own and (won := best(others)):
            none = less(own, MTS, BOUNDS[1]) if BOUNDS[1] in own else np.array([])
            rows.append({"testbed": name, "none": none, "best": won[0], "less": less(own, MTS, won[0])})
    return rows


def render(found: Mapping[str, Gains], missing: Mapping[str, str]) -> str:
    """The page in Markdown."""
    ways = [way for way in WAYS if any(way in own for own in found.values())]
    columns = {"way": lambda way: way} | {
        f"[{name}](testbed_{name}.md)": partial(_cell, own, asked=ASKED[name]) for name, own in found.items()
    }
    margin = {
        "testbed": lambda r: r["testbed"],
        "less no selection": lambda r: _text(r["none"]),
        "best other way": lambda r: r["best"],
        "less that": lambda r: _text(r["less"]),
    }
    parts = [
        "# Ways to select, on four testbeds",
        f"**{headline(found)}**",
        *(f"{name}: {said}" for name, said in missing.items()),
        *(f"{name}: not measured yet." for name, own in found.items() if not own),
        ABOUT,
        rows_of("## Against as many examples by lot", ways, columns),
        rows_of(f"## {MTS}", margins(found), margin),
        "The best other way is picked by its mean over these very seeds, so that the last column leans against MTS. "
        "The paper, on images, has 5.5 points over no selection and 2.9 over its strongest baseline.",
        "## At a glance\n\nMeans and 95% intervals; hollow: no way to select (the oracle, and all of it).",
        f"![What each way gains over as many examples by lot]({NAME}/gains.png)",
        "## Once more",
        "```\n"
        + "\n".join(f"python -m training testbed {name} --seeds {seeds}" for name, seeds in ASKED.items())
        + "\n```",
        "Each of them writes this page, too; so do the Dags `testbed_digits`, `testbed_docs`, `testbed_web` and "
        "`testbed_translations`, in the lake.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _arms(parts: Sequence[Published]) -> list[dict]:
    return [row for part in parts for row in read(part, "arms")]


def _cell(found: Gains, way: str, *, asked: int) -> str:
    own = over_seeds(found.get(way, {}))
    few = f", {len(own)} of {asked} seeds" if 0 < len(own) < asked else ""
    return _text(own) + few


def _text(numbers: np.ndarray) -> str:
    if not len(numbers):
        return "–"
    mean, margin = numbers.mean(), half_width(numbers)
    return f"{mean:+.1f}" + ("" if margin is None else f" ({mean - margin:+.1f} to {mean + margin:+.1f})")


def _figure(found: Mapping[str, Gains]) -> plt.Figure:
    ways = [way for way in reversed(WAYS) if any(way in own for own in found.values())]
    figure, panels = plt.subplots(
        1, len(found), figsize=(9.0, 1.0 + 0.27 * len(ways)), sharey=True, layout="constrained", squeeze=False
    )
    for panel, (name, own) in zip(panels[0], found.items(), strict=True):
        for place, way in enumerate(ways):
            numbers = over_seeds(own.get(way, {}))
            if not len(numbers):
                continue
            colour = COLOURS[0 if way.startswith("MTS") else 1]
            hollow = {"markerfacecolor": "none"} if way in BOUNDS else {}
            panel.errorbar(
                numbers.mean(), place, xerr=half_width(numbers), fmt="o", color=colour, markersize=4.5, **hollow
            )
        panel.axvline(0, color=INK, linewidth=0.8)
        panel.set_title(name)
        panel.set_xlabel("points of accuracy" if name == DIGITS else "% of perplexity")
        panel.grid(axis="x")
    panels[0][0].set_yticks(range(len(ways)), ways)
    return figure
