"""What a study trains: steps, tokens, passes and FLOPs of every recipe at the points its file comes to unsearched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from palimpsest.config import Study
from palimpsest.mixes import recipe_rows
from training import points
from training.flops import flops_per_token

Rows = dict[str, list[dict]]


def budget(study: Study, recipes: Mapping[str, Sequence[Mapping]], vocabulary: int) -> list[dict]:
    """One row per recipe: runs, steps and tokens of one run, passes by layout, FLOPs of one run.

    ``recipes`` holds the rows of ``mixes.parquet`` by recipe, one per stream. Mixes that follow another ('like',
    'match') follow the point it is written with. A search comes on top: at least its centre and their neighbours once
    each, which ``searched`` counts.
    """
    found, known = [], {name: [row | {"vocabulary": vocabulary} for row in rows] for name, rows in recipes.items()}
    followed = points.resolve(study, known, {recipe: points.own(study, recipe) for recipe in recipes})
    for recipe, rows in known.items():
        training = study.training_of(recipe)
        run = points.at(study, rows, followed[recipe], training.seeds[0])
        tokens = run["steps"] * training.batch * training.context
        found.append(
            {
                "recipe": recipe,
                "steps": run["steps"],
                "tokens": tokens,
                "passes": {stream["layout"]: stream["passes"] for stream in run["streams"]},
                "seeds": len(training.seeds),
                "searched": _box(study, recipe) if study.is_searched(recipe) else 0,
                "flops": flops_per_token(training.model, vocabulary, training.context) * tokens,
            }
        )
    return found


def imagined(study: Study, *, documents: int, real: int, written: Mapping[str, int]) -> Rows:
    """Rows of the mixes over streams of these sizes: ``real`` tokens in all, ``written`` per generation of a strategy.

    Every document has all its generations. A stream's real copies and boundaries count as the mixes count them, its
    windows as if it were cut: how well whole megadocs fit depends on the length of each.
    """
    found: Rows = {}
    for row in recipe_rows(study):
        own = round(row["share"] * real)
        rows = [_row(row, row["real_layout"], own, 0)]
        for name in study.mix_of(row["recipe"]).streams:
            layout = study.layouts[name]
            counts = {s: layout.generations or study.strategies[s].generations for s in layout.strategies}
            made = round(study.real_share * documents) * sum(n * written[s] for s, n in counts.items())
            kept = 0 if layout.real == "none" else round(study.real_share * real)
            rows.append(_row(row, name, made + kept, made))
        found[row["recipe"]] = rows
    return found


def _row(row: Mapping, layout: str, tokens: int, synthetic: int) -> dict:
    whole = {"stream_tokens": tokens, "stream_synthetic_tokens": synthetic, "windows": -(-tokens // row["context"])}
    return {"recipe": row["recipe"], "role": row["role"], "share": row["share"], "layout": layout, **whole}


def _box(study: Study, recipe: str) -> int:
    """Points a search looks at if it starts at the best one: the centre and what lies beside it on each axis."""
    search = study.search_of(recipe)
    axes = search.axes(study.mix_of(recipe))
    if search.method == "grid":
        return math.prod(len(getattr(search, axis)) for axis in axes)
    start = points.own(study, recipe)._asdict()
    values = [(getattr(search, axis), start[axis]) for axis in axes]
    return 1 + sum((at > listed[0]) + (at < listed[-1]) for listed, at in values)


def table(rows: Sequence[dict]) -> str:
    lines = [f"{'recipe':<28}{'steps':>9}{'tokens':>12}{'passes':>16}{'runs':>12}{'FLOPs a run':>13}"]
    for row in rows:
        passes = " + ".join(f"{value:.1f}" for value in row["passes"].values())
        runs = f"{row['searched']} + {row['seeds']}" if row["searched"] else str(row["seeds"])
        tokens = f"{row['tokens'] / 1e6:,.1f}M"
        lines.append(f"{row['recipe']:<28}{row['steps']:>9,}{tokens:>12}{passes:>16}{runs:>12}{row['flops']:>13.2e}")
    counts = [_runs(row) for row in rows]
    tokens, flops = sum(_runs(row) * row["tokens"] for row in rows), flops_of(rows)
    lines.append(f"{sum(counts):,} runs, {tokens / 1e6:,.1f}M tokens, {flops:.2e} FLOPs")
    if any(row["searched"] for row in rows):
        lines.append("A search counts with its last box, each point of it as long as the one its mix is written with.")
    return "\n".join(lines)


def flops_of(rows: Sequence[dict]) -> float:
    """Of all runs of a budget: every seed, and the last box of each search."""
    return sum(_runs(row) * row["flops"] for row in rows)


def _runs(row: Mapping) -> int:
    return row["seeds"] + max(row["searched"] - 1, 0)  # one seed runs in the search
