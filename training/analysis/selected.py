"""What layouts that 'select' took, and what each score cost beside the runs that it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palimpsest import align
from palimpsest.config import Study
from palimpsest.lake import Published

SCORES = ("score_kept", "score_left")
LAYOUT = {
    "layout": lambda r: r["layout"],
    "chosen": lambda r: r["rule"],
    "texts kept": lambda r: f"{r['kept']:,} of {r['texts']:,}",
    "tokens kept": lambda r: f"{r['kept_tokens'] / r['tokens']:.1%}" if r["tokens"] else "–",
    "mean score": lambda r: _or_dash(r["score_kept"], ".3f"),
    "left out": lambda r: _or_dash(r["score_left"], ".3f"),
    "seconds": lambda r: f"{r['seconds']:.1f}",
    "of a run": lambda r: _or_dash(r["share_of_seconds"], ".1%"),
    "FLOPs": lambda r: f"{r['flops']:.2g}",
    "of a run's": lambda r: _or_dash(r["share_of_flops"], ".2g"),
    "mixes": lambda r: ", ".join(r["mixes"]),
}
"""Columns of a Markdown table, and what a row of ``layouts`` has in each."""


def read(study: Study, mixes: Published, runs: Sequence[Mapping]) -> dict:
    """``layouts``: a row per layout that chooses by a score; ``methods``: a row per score; ``examples`` of each.

    ``runs`` are the evaluations. A score's share of a run is its seconds (FLOPs) over the mean of one run of a mix
    with that layout: what it adds to the first run, and next to nothing to the tenth. Empty where no layout selects.
    """
    weights = align.of_mixes(mixes.lake, mixes)
    layouts = {name: layout for name, layout in study.layouts.items() if layout.select}
    if weights is None or not layouts:
        return {"layouts": [], "methods": [], "examples": {}, "agreement": {}}
    parent = next(p for p in weights.manifest["parents"] if p["dataset"].endswith("/selection"))
    methods = weights.lake.open(parent["uri"], parent["digest"]).extra
    table = pq.read_table(weights.file("weights.parquet"), columns=["layout", "strategy", "score", "keeps"])
    rows = []
    for name, layout in layouts.items():
        told, cost = weights.extra["layouts"][name], methods["methods"][layout.select.by]
        served = [mix for mix, own in study.mixes.items() if name in own.layouts]
        ran = [run for run in runs if run["recipe"] in served]
        own = table.filter(pc.equal(table["layout"], name))
        strategies = {}
        for strategy in layout.strategies:
            mine = own.filter(pc.fill_null(pc.equal(own["strategy"], strategy), False))
            strategies[strategy] = {"texts": len(mine), "kept": pc.sum(mine["keeps"]).as_py() or 0}
        rows.append(
            {
                "layout": name,
                "by": layout.select.by,
                "rule": layout.select.words,
                "mixes": served,
                "strategies": strategies,
                **_scores(own),
                **{key: told["generations"][key] for key in ("texts", "kept", "tokens", "kept_tokens", "effective")},
                "unknown_documents": told["unknown_documents"],
                "seconds": cost["seconds"],
                "flops": cost["flops"],
                "share_of_seconds": _share(cost["seconds"], [run["seconds"] for run in ran]),
                "share_of_flops": _share(cost["flops"], [run["flops"] for run in ran]),
            }
        )
    examples = {name: {side: own[side] for side in ("best", "worst")} for name, own in methods["methods"].items()}
    told = ("seconds", "cpu_seconds", "flops", "scores", "weights", "figures")
    scores = [{"method": name, **{key: own[key] for key in told}} for name, own in methods["methods"].items()]
    return {"layouts": rows, "methods": scores, "examples": examples, "agreement": methods["agreement"]}


def metrics(table: Mapping) -> dict[str, float | None]:
    """``selection/<figure>/<layout>`` of what was kept and of what its score cost."""
    found = {}
    for row in table["selection"]["layouts"]:
        own = {
            "kept_share": row["kept"] / row["texts"] if row["texts"] else None,
            "kept_token_share": row["kept_tokens"] / row["tokens"] if row["tokens"] else None,
            **{key: row[key] for key in (*SCORES, "seconds", "flops", "share_of_seconds", "share_of_flops")},
        }
        found |= {f"selection/{name}/{row['layout']}": value for name, value in own.items()}
    return found


def as_table(table: Mapping) -> list[dict]:
    """Rows for an MLflow table: a strategy of a layout each."""
    return [
        {
            **{key: row[key] for key in ("layout", "rule")},
            "mixes": ", ".join(row["mixes"]),
            "strategy": strategy,
            "texts": own["texts"],
            "kept": own["kept"],
            **{key: row[key] for key in (*SCORES, "seconds", "flops", "share_of_seconds", "share_of_flops")},
        }
        for row in table["selection"]["layouts"]
        for strategy, own in row["strategies"].items()
    ]


def _scores(rows: pa.Table) -> dict[str, float | None]:
    """Of a layout's generated texts: the mean score of those it keeps and of those it leaves out."""
    rows = rows.filter(pc.is_valid(rows["strategy"]))
    sides = (rows["keeps"], pc.invert(rows["keeps"]))
    return {name: pc.mean(rows.filter(side)["score"]).as_py() for name, side in zip(SCORES, sides, strict=True)}


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _share(cost: float, of_runs: Sequence[float]) -> float | None:
    return cost / fmean(of_runs) if of_runs and fmean(of_runs) else None
