"""The page of a testbed of texts: perplexity at one budget of tokens, and which scores pass the project's own rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np

from palimpsest.lake import Published
from training.analysis.markdown import rows_of
from training.analysis.style import COLOURS, DASHED, INK, WIDTH
from training.analysis.testbed import Page, cost, drawn
from training.analysis.testbed_figures import Figures, carried, draw, noise, weights
from training.analysis.testbed_seeds import CHECK, Check, interval, less, over_seeds, spread, values

RANDOM, ORACLE, EVERYTHING, RANK = "random", "oracle", "everything", "rank average"
"""Arms as `training.testbeds.docs.arms` has them, which cannot be imported here: it loads torch."""
MTS = "MTS 1024"
"""The arm whose weights and features are drawn."""
LEARNED = ("influence", "PVM", "MTS", "loss alone", "Learning to Reweight")
"""What the names of learned arms begin with; not that of the mixture whose proxies are what judges all arms."""
SEEDS, ABOVE, SHARE = 5, 0.8, 0.6
"""Seeds that the rule asks for, the share of them in which a learned score beats the average, and of the gap."""

Rows = Sequence[Mapping]

ARM = {
    "arm": lambda r: r["arm"],
    "perplexity": lambda r: spread(r["perplexity"], 1),
    "of the gap": lambda r: "–" if r["closed"] is None else f"{r['closed'].mean():.0%}",
    "better than rank average": lambda r: r["above"],
    "seeds": lambda r: len(r["perplexity"]),
    "AUROC": lambda r: spread(r["auroc"]),
    "Spearman with the grade": lambda r: spread(r["spearman"], 2),
    "CPU seconds": lambda r: f"{np.mean(r['cpu_seconds']):.1f}",
    "FLOPs": lambda r: "–" if r["flops"] is None else f"{np.mean(r['flops']):.2g}",
}
FEATURE = {"feature": lambda r: r[0], "AUROC": lambda r: spread(r[1])}
FIGURE = {
    "arm": lambda r: r[0],
    "figure": lambda r: r[1],
    "": lambda r: spread(r[2], 6 if 0 < abs(r[2].mean()) < 0.01 else 3),  # an influence is a ten-thousandth of a nat
}
WORTH = {"kind": lambda r: r[0], "grade": lambda r: r[1], "measured": lambda r: spread(r[2], 2)}


@dataclass(frozen=True)
class Told:
    """What the page of one testbed says that others do not."""

    testbed: str
    title: str
    about: str
    """What is in the pool, the target and the test."""
    worth: str
    """What part ``worth`` measures here, and what the grades are."""
    grades: Mapping[str, float]
    """By kind what a text of it is worth, in the order of the tables."""

    def page(self) -> Page:
        figures = _figures(tuple(self.grades))
        code = (f"testbed_{self.testbed}", "testbed_texts", "testbed_figures")
        return Page(
            self.testbed,
            ("arms", "kinds", "figures", "features", "trace", "carried", "worth"),
            check,
            partial(draw, figures),
            partial(render, self, figures),
            headline,
            code=tuple(f"training/analysis/{name}.py" for name in code),
        )


def check(tables: Mapping[str, Rows]) -> None:
    """Raises ValueError where the part that the page cannot do without was not measured."""
    if RANK not in {row["arm"] for row in tables["arms"]}:
        raise ValueError("part 'simple' of the testbed is not measured yet; leave out --parts, or name it there")


def closed(rows: Rows) -> dict[str, dict[int, float]]:
    """By arm and seed the share of the way from chance to the oracle, in perplexity, that the arm goes."""
    found = values(rows, "arm", "perplexity")
    chance, best = found[RANDOM], found[ORACLE]
    return {
        arm: {s: (chance[s] - own) / (chance[s] - best[s]) for s, own in by_seed.items() if s in chance}
        for arm, by_seed in found.items()
    }


def checks(rows: Rows) -> list[Check]:
    """The rule for every learned score, each by itself: none is chosen for how it came out."""
    shares, found = closed(rows), []
    for arm in (arm for arm in shares if arm.startswith(LEARNED)):
        share, above = over_seeds(shares[arm]), less(shares, arm, RANK) > 0
        enough = len(above) >= SEEDS
        found += [
            Check(f"{arm}: mean share of the gap ≥ {SHARE:.0%}", interval(share), share.mean() >= SHARE),
            Check(
                f"{arm}: better than rank average, paired, in ≥ 4 of 5 seeds",
                f"{above.sum()} of {len(above)} seeds" + ("" if enough else f", where {SEEDS} are asked for"),
                bool(enough and above.mean() >= ABOVE),
            ),
        ]
    return found


def passed(rows: Rows) -> list[str]:
    """Learned scores that meet both halves of the rule."""
    fate: dict[str, bool] = {}
    for own in checks(rows):
        arm = own.asked.split(":")[0]
        fate[arm] = fate.get(arm, True) and own.holds
    return [arm for arm, holds in fate.items() if holds]


def headline(tables: Mapping[str, Rows]) -> str:
    """Who passes, and so which score is the default."""
    rows = tables["arms"]
    shares = {arm: over_seeds(own).mean() for arm, own in closed(rows).items()}
    learned = [arm for arm in shares if arm.startswith(LEARNED)]
    seeds = len(values(rows, "arm", "perplexity")[RANK])
    told = (
        f"Over {seeds} seed{'s' * (seeds > 1)} rank average closes {shares[RANK]:.0%} of the gap from chance to oracle"
    )
    if not learned:
        return f"{told}; no learned score is measured, so it stays the default."
    counts = {arm: len(own) for arm, own in values(rows, "arm", "perplexity").items()}
    fewer = {arm: f" (of {counts[arm]})" if counts[arm] < seeds else "" for arm in learned}
    told += f", {', '.join(f'{arm} {shares[arm]:.0%}{fewer[arm]}' for arm in learned)}"
    won = passed(rows)
    if not won:
        return f"{told}: no learned score passes, so rank average stays the default."
    return f"{told}: {', '.join(won)} {'pass' if len(won) > 1 else 'passes'}."


def by_arm(rows: Rows) -> list[dict]:
    """What each arm came to over the seeds, that of the largest mean share of the gap first.

    Not by perplexity: each seed has its own texts, and arms need not have the same seeds.
    """
    names = ("perplexity", "auroc", "spearman", "cpu_seconds", "flops")
    found, shares = {name: values(rows, "arm", name) for name in names}, closed(rows)
    told = []
    for arm in found["perplexity"]:
        own = {name: over_seeds(found[name][arm]) if arm in found[name] else None for name in names}
        above = less(shares, arm, RANK) > 0
        compared = arm not in (RANK, ORACLE, EVERYTHING)
        told.append(
            own
            | {
                "arm": arm,
                "closed": None if arm == EVERYTHING else over_seeds(shares[arm]),
                "above": f"{above.sum()} of {len(above)}" if compared else "–",
            }
        )
    return sorted(told, key=lambda row: -over_seeds(shares[row["arm"]]).mean())


def by_kind(rows: Rows, kinds: Sequence[str]) -> list[dict]:
    """By arm the mean share of the tokens of each kind that it keeps."""
    return [
        {"arm": arm} | {kind: over_seeds(values(own, "kind", "kept")[kind]).mean() for kind in kinds}
        for arm in dict.fromkeys(row["arm"] for row in rows)
        if (own := [row for row in rows if row["arm"] == arm]) and arm != EVERYTHING
    ]


def by_figure(rows: Rows) -> list[tuple[str, str, np.ndarray]]:
    """What methods say of themselves: arm, figure, its values over the seeds."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["figure"]), []).append(row["value"])
    return [(*key, np.array(own)) for key, own in found.items()]


def by_feature(rows: Rows) -> list[tuple[str, np.ndarray]]:
    """Features and their AUROC over the seeds, the farthest from chance first."""
    found = {name: over_seeds(own) for name, own in values(rows, "feature", "auroc").items()}
    return sorted(found.items(), key=lambda pair: -abs(pair[1].mean() - 0.5))


def by_worth(rows: Rows, grades: Mapping[str, float]) -> list[tuple[str, float, np.ndarray]]:
    """Kinds, their grades, and what they were measured to be worth."""
    found = values(rows, "kind", "worth")
    return [(kind, grade, over_seeds(found[kind])) for kind, grade in grades.items() if kind in found]


def render(
    told: Told,
    titles: Figures,
    tables: Mapping[str, Rows],
    published: Sequence[Published],
    figures: Sequence[str],
    missing: str = "",
) -> str:
    """The page in Markdown; ``missing`` says what is not in it."""
    arms = tables["arms"]
    kinds = {"arm": lambda r: r["arm"]} | {kind: (lambda r, kind=kind: f"{r[kind]:.0%}") for kind in told.grades}
    worth = rows_of("## What each kind is worth", by_worth(tables["worth"], told.grades), WORTH)
    parts = [
        f"# {told.title}",
        f"**{headline(tables)}**",
        missing,
        f"{told.about} An arm keeps half of the pool's "
        "words by its score (equal scores by lot, the last text cut), a word trigram learns them, and its perplexity "
        "on the test counts. *Meta-rater, trigrams* mixes cheap scores by what such trigrams learn from them: it has "
        "met the judge of all arms, and no other score has. *Learning to Reweight* trains its model on 256 texts a "
        "step, the other learned weights on 64. The gap runs from as many words by lot (0%) to the oracle, which knows "
        "the grades (100%); *everything* learns twice the words. Means over seeds ± standard deviation; in brackets "
        "the 95% interval of the mean (Student's).",
        rows_of("## What is asked of a learned score", checks(arms), CHECK) or "No learned score is measured yet.",
        "Both lines have to be met, over five seeds; otherwise the rank average of log-probability and classifier is "
        "the default. Every setting is judged by itself, so the best of several is not to be picked from this table.",
        rows_of("## Arms", by_arm(arms), ARM),
        "The order is that of the share of the gap, which is taken within each seed. Perplexities compare only between "
        "arms of the same seeds, for each seed draws a pool and a test.",
        rows_of("## What each score keeps, by kind", by_kind(tables["kinds"], told.grades), kinds),
        worth,
        worth and told.worth,
        rows_of("## What features tell of good texts and others", by_feature(tables["features"]), FEATURE),
        rows_of("## What methods say of themselves", by_figure(tables["figures"]), FIGURE),
        "## Figures",
        *drawn(titles, figures, f"testbed_{told.testbed}"),
        "## Cost and hardware",
        cost(published),
        "## Once more",
        f"```\nairflow dags trigger testbed_{told.testbed}\npython -m training testbed {told.testbed} --seeds 5\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _gap(tables: Mapping[str, Rows]) -> plt.Figure:
    shares = {arm: over_seeds(own) for arm, own in closed(tables["arms"]).items() if arm != EVERYTHING}
    order = sorted(shares, key=lambda arm: shares[arm].mean())
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.27 * len(order)), layout="constrained")
    for place, arm in enumerate(order):
        axes.barh(place, shares[arm].mean(), color=COLOURS[0 if arm.startswith(LEARNED) else 1], alpha=0.7)
        axes.plot(shares[arm], [place] * len(shares[arm]), "o", color=INK, alpha=0.5, markersize=4)
    axes.axvline(SHARE, color=INK, linestyle=DASHED, linewidth=1)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("share of the gap from chance to oracle")
    axes.grid(axis="x")
    return figure


def _trace(tables: Mapping[str, Rows]) -> plt.Figure | None:
    arms = list(dict.fromkeys(row["arm"] for row in tables["trace"]))
    return noise(tables, arms) if arms else None


def _figures(kinds: Sequence[str]) -> Figures:
    return {
        "gap": (
            "How far each score goes from chance to the oracle",
            "Points are seeds. Dashed: what is asked of a learned score.",
            _gap,
        ),
        "noise": (
            "Signal over noise, and effective texts of a batch, while weights are learned",
            "Means over seeds; few independent gradients at each look, so a trend. Dashed: 32 texts, below which the "
            "alarm rings.",
            _trace,
        ),
        "weights": (
            "Who has the weight",
            f"{MTS}; means over seeds, whole pool.",
            lambda tables: weights(tables, MTS, kinds) if tables["trace"] else None,
        ),
        "features": (
            "Which features carry it",
            f"{MTS}, at the end: AUROC of good texts against others that is lost where a feature is shuffled. Points "
            "are seeds.",
            lambda tables: carried(tables, MTS) if tables["carried"] else None,
        ),
    }
