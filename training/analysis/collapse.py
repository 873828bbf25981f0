"""``docs/results/collapse.md``: tier 0 of the collapse experiments, from what ``guard experiment`` published last.

``python -m training collapse`` writes the page and its figures; nothing in it is written by hand.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from palimpsest.guard.experiment import COLD, REPLAY, Row, load
from palimpsest.guard.findings import NEW, averages, findings
from palimpsest.lake import REPOSITORY, Lake, Published
from training.analysis.markdown import rows_of
from training.analysis.plots import save
from training.analysis.style import COLOURS, DASHED, INK, STYLE, WIDTH
from training.analysis.took import duration

NAME = "collapse"
PAPERS = {
    "replace 0 grows": "worse with every generation without real text (Shumailov et al. 2024, 2305.17493)",
    "real text helps": "the more real text, the less is lost (Alemohammad et al. 2023, 2307.01850)",
    "all real stays": "by definition",
    "half real is flat": "real shares of a half and more are stable (Garg et al. 2025, 2509.22341)",
    "accumulate is bounded": "bounded where nothing is thrown away (Gerstgrasser et al. 2024, 2404.01413)",
    "subsample lies between": "between the two at a fixed budget (Kazdan et al. 2024, 2410.16713)",
    "a low temperature ruins": "sampling near the mode loses the tail at once (Dohmatob et al. 2024, 2402.07043)",
    "tail follows its null": "a word of count c lasts some c generations (Suresh et al. 2024, 2412.17646)",
    "continual: half real is flat": "fresh real text in every round holds a loop (Alemohammad et al. 2023, 2307.01850)",
    "continual: accumulate gains": "more kept data is never worse (Gerstgrasser et al. 2024, 2404.01413)",
}
"""The shape that each finding is held against."""
FIGURES: dict[str, tuple[str, str, Callable[[Row], bool], Callable[[Row], float | None], Callable[[Row], str]]] = {
    "perplexity-pure": (
        "Perplexity on real text, sampling as learned",
        "Means over seeds, on documents that nobody learned from; dashed: real text alone.",
        lambda r: r.decoding == "pure" and not r.arm.startswith(NEW),
        lambda r: r.perplexity,
        lambda r: r.arm,
    ),
    "perplexity-cold": (
        f"The same, where every model writes at a temperature of {COLD:g}",
        "Logarithmic: without real text a few words are all that is left after four generations.",
        lambda r: r.decoding == f"T = {COLD:g}",
        lambda r: r.perplexity,
        lambda r: r.arm,
    ),
    "perplexity-mode-seeking": (
        "The same, where every word is, half of the time, the more frequent of two draws",
        "What beams and cherry-picking do.",
        lambda r: r.decoding == "mode-seeking",
        lambda r: r.perplexity,
        lambda r: r.arm,
    ),
    "perplexity-continual": (
        "New real text in every round",
        f"Perplexity over that of the round's real text alone, of which {REPLAY:.0%} is replayed from earlier rounds. "
        "Below the dashed line synthetic text helps: it carries real text of rounds that are past.",
        lambda r: r.arm.startswith(NEW),
        lambda r: r.perplexity / r.base,
        lambda r: r.arm.removeprefix(NEW),
    ),
    "rare-words": (
        "Rare words of the real text that are left, without real text in the mix",
        "Words that stand in the real text three times at most. Dashed: what pure sampling leaves, by the branching "
        "process, computed from the real text's counts alone.",
        lambda r: r.arm == "replace 0.0",
        lambda r: r.recall,
        lambda r: r.decoding,
    ),
}
"""Title, caption, which rows, what of them, and what a line is."""
WIDE = 4.0
"""Values that differ more than so many times are drawn on a logarithmic axis."""


def main(folder: Path | None = None) -> Path:
    """Write the page of the newest published experiment; its path."""
    published = Lake.from_env().latest("guard/experiment")
    rows = load(published)
    folder = folder or REPOSITORY / "docs" / "results"
    shutil.rmtree(folder / NAME, ignore_errors=True)
    (folder / NAME).mkdir(parents=True)
    draw(rows, folder / NAME)
    page = folder / f"{NAME}.md"
    page.write_text(render(published, rows), encoding="utf-8")
    return page


def draw(rows: Sequence[Row], directory: Path) -> list[str]:
    """Write the figures that there are rows for; their names."""
    with plt.rc_context(STYLE):
        names = [name for name in FIGURES if save(_lines(rows, name), name, directory)]
    for name in names:
        (directory / f"{name}.svg").unlink()  # the page shows the PNG
    return names


def render(published: Published, rows: Sequence[Row]) -> str:
    """The page in Markdown."""
    found, about = findings(rows), published.extra
    seeds, last = len({row.seed for row in rows}), max(row.generation for row in rows)
    holding = sum(finding.holds for finding in found)
    base = fmean(row.base for row in rows if not row.arm.startswith(NEW))
    columns = {"decoding": lambda r: r[1], "policy": lambda r: r[0]}
    columns |= {f"g{g + 1}": lambda r, g=g: f"{r[2][g]:,.0f}" for g in range(last)}
    columns |= {"rare words left": lambda r: "–" if r[3] is None else f"{r[3]:.3f}"}
    compared = {
        "shape in the papers": lambda f: PAPERS[f.name],
        "here": lambda f: f.sentence,
        "": lambda f: "holds" if f.holds else "**does not hold**",
    }
    drawn = [f"### {t[0]}\n\n{t[1]}\n\n![{t[0]}]({NAME}/{n}.png)" for n, t in FIGURES.items() if any(map(t[2], rows))]
    parts = [
        "# Collapse, tier 0: word trigrams that learn from word trigrams",
        f"**{holding} of {len(found)} findings of the papers hold here, with every one of the seeds ({seeds}) where "
        "the finding names no mean.**",
        f"CPython's own documentation text ({about['documents']:,} documents; a fifth is held out), a word trigram "
        f"that learns from scratch in every generation, {last} generations. Perplexity of real text alone: {base:.1f}. "
        "Policies and shares are those of [loops](../guard.md#loops); the same with a small neural model and vLLM is "
        "the Dag `loop_cpython`.",
        f"Written by `python -m training collapse` from `{published.dataset}` `{published.digest[:12]}`.",
        rows_of("## Against the papers", found, compared),
        rows_of("## Perplexity by generation, means over seeds", averages(rows), columns),
        "Policy `replace r`: a share r of real text, the rest written by the newest model. `subsample`: a draw from "
        "the real text and all that was ever written, as large as the real text (with a number: at least that share "
        "real). `accumulate`: all of it. `continual`: new real text in every round, "
        f"{REPLAY:.0%} of it replayed from earlier ones. Rare words left: of the words that stand in the real text "
        "three times at most, those in the last text written.",
        "## Figures",
        *drawn,
        "## What is not here",
        "Word trigrams have no fluency to lose and no calibration: shapes can be compared with those of neural models, "
        "sizes cannot. The tenfold perplexity at a low temperature was expected of neural models and is asked of the "
        "trigram as it stands. A cold model's first text is still near the real one's, so that accumulate is asked to "
        "slow down from the second generation on there. The continual form runs under pure sampling alone.",
        "## Cost and hardware",
        _cost(about),
        "## Once more",
        "```\npython -m palimpsest guard experiment\npython -m training collapse\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _cost(about: Mapping) -> str:
    facts = {
        "Hardware": about["hardware"],
        "Wall clock": f"{duration(about['seconds'])}; CPU time {duration(about['cpu_seconds'])}, one thread",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _lines(rows: Sequence[Row], figure: str) -> plt.Figure | None:
    _, _, chosen, value, line = FIGURES[figure]
    own = [row for row in rows if chosen(row)]
    if not own:
        return None
    drawn, axes = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
    rounds = range(1, max(row.generation for row in own) + 1)
    heights: list[float] = []
    for place, name in enumerate(dict.fromkeys(map(line, own))):
        values = [fmean(value(r) for r in own if line(r) == name and r.generation == g) for g in rounds]
        heights += values
        axes.plot(rounds, values, "o-", color=COLOURS[place % len(COLOURS)], label=name, markersize=4, linewidth=1.7)
    level = [_level(own, figure, g) for g in rounds]
    axes.plot(rounds, level, color=INK, linestyle=DASHED, linewidth=1)
    if figure.startswith("perplexity") and max(heights) > WIDE * min(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{height:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid()
    axes.set_xlabel("generation")
    axes.legend()
    return drawn


def _level(rows: Sequence[Row], figure: str, generation: int) -> float:
    """What a line would be if nothing but sampling happened, or real text alone was learned."""
    if figure == "perplexity-continual":
        return 1.0
    own = [row for row in rows if row.generation == generation]
    return fmean(row.sampled if figure == "rare-words" else row.base for row in own)
