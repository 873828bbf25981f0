"""What a study trains: steps, tokens, passes and FLOPs of every recipe at the points its file comes to unsearched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palimpsest.config import Study
from palimpsest.mixes import recipe_rows
from training import points, search
from training.flops import flops_per_token

Rows = dict[str, list[dict]]


def budget(study: Study, recipes: Mapping[str, Sequence[Mapping]], vocabulary: int) -> list[dict]:
    """One row per recipe: runs, steps and tokens of one run, passes by layout, FLOPs of one run.

    ``recipes`` holds the rows of ``mixes.parquet`` by recipe, one per stream. Mixes that follow another ('like',
    'match') follow the point it is written with. A search comes on top: ``searched`` counts the points of its first box
    (the centre and its neighbours, or the grid), and ``searched_tokens`` what all but the centre train.
    """
    found, known = [], {name: [row | {"vocabulary": vocabulary} for row in rows] for name, rows in recipes.items()}
    followed = points.resolve(study, known, {recipe: points.own(study, recipe) for recipe in recipes})
    for recipe, rows in known.items():
        training = study.training_of(recipe)
        run = points.at(study, rows, followed[recipe], training.seeds[0])
        of_a_step = training.batch * training.context
        tokens = run["steps"] * of_a_step
        box = _box(study, recipe) if study.is_searched(recipe) else []
        beside = sum(points.steps_at(study, points.in_order(study, rows), point) for point in box[1:])
        found.append(
            {
                "recipe": recipe,
                "steps": run["steps"],
                "tokens": tokens,
                "passes": {stream["layout"]: stream["passes"] for stream in run["streams"]},
                "seeds": len(training.seeds),
                "searched": len(box),
                "searched_tokens": beside * of_a_step,
                "flops_per_token": flops_per_token(training.model, vocabulary, training.context),
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


def _box(study: Study, recipe: str) -> list[points.Point]:
    """Points a search looks at first: the one the mix is written with, and what lies beside it on each axis."""
    searched = study.search_of(recipe)
    return search.next_points(searched, searched.axes(study.mix_of(recipe)), points.own(study, recipe), {})


def table(rows: Sequence[dict]) -> str:
    lines = [f"{'recipe':<28}{'steps':>9}{'tokens':>12}{'passes':>16}{'runs':>12}{'FLOPs a run':>13}"]
    for row in rows:
        passes = " + ".join(f"{value:.1f}" for value in row["passes"].values())
        runs = f"{row['searched']} + {row['seeds']}" if row["searched"] else str(row["seeds"])
        tokens = f"{row['tokens'] / 1e6:,.1f}M"
        flops = row["tokens"] * row["flops_per_token"]
        lines.append(f"{row['recipe']:<28}{row['steps']:>9,}{tokens:>12}{passes:>16}{runs:>12}{flops:>13.2e}")
    runs, tokens = sum(map(_runs, rows)), sum(map(_tokens, rows))
    lines.append(f"{runs:,} runs, {tokens / 1e6:,.1f}M tokens, {flops_of(rows):.2e} FLOPs")
    if any(row["searched"] for row in rows):
        lines.append(
            "A search counts with the box around the point its mix is written with; if that is not the best one, the "
            "boxes on the way to it come on top."
        )
    return "\n".join(lines)


def flops_of(rows: Sequence[dict]) -> float:
    """Of all runs of a budget: every seed, and the first box of each search."""
    return sum(_tokens(row) * row["flops_per_token"] for row in rows)


def _tokens(row: Mapping) -> int:
    return row["seeds"] * row["tokens"] + row["searched_tokens"]


def _runs(row: Mapping) -> int:
    return row["seeds"] + max(row["searched"] - 1, 0)  # one seed runs in the search
