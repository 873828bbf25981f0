"""The report in MLflow, under the same names in every study: studies and reports can be compared there."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from palimpsest.config import Study
from palimpsest.lake import Published
from training import track
from training.analysis import selected, spent
from training.analysis.markdown import HOLDS
from training.analysis.words import TOLD, caveats, describe, law_text, loss_text, margins_text, tokens_seen, warnings
from training.costs import device_hours

LENGTHS = ("versions_per_window", "documents_mean", "megadocs_mean", "megadocs_over_context")
SIGNS = ("ece", "facts_real", "facts_held_out")
EFFICIENCY = ("efficiency", "efficiency_low", "efficiency_high", "extrapolated")
TAG = 5000  # characters of a tag that every MLflow store takes
WIDTHS = ("margin", "document_margin")
PARTS = ("", *(f"_{name}" for name in WIDTHS))


def log_report(
    study: Study, published: Published, table: Mapping, parent_run_id: str, parents: Sequence[Published]
) -> None:
    """Metrics, tags, tables and files of the report; then what earlier reports of the study said beside it."""
    track.finish_parent(
        study,
        parent_run_id,
        published.path,
        metrics(table),
        headline=table["headline"],
        tables=tables(table),
        tags=tags(table, published),
        datasets=parents,
    )
    earlier = track.reports(study)
    if len(earlier) > 1:
        from training.analysis.history import as_table, draw

        with tempfile.TemporaryDirectory() as folder:
            draw(earlier, table["reference"], Path(folder))
            track.add_files(parent_run_id, Path(folder), {"history.json": as_table(earlier)})


def metrics(table: Mapping) -> dict[str, float]:
    """``best/...``, ``reference/...`` and ``total/...`` mean the same in every study; the others name a mix.

    ``loss/<mix>`` is i.i.d., ``loss_<set>/<mix>`` that of another held-out set. ``extrapolated/<mix>`` is 1 where the
    ``efficiency/<mix>`` was read off beyond the real-only runs; what else it hangs on is in `tags`.
    """
    found: dict[str, float | None] = {}
    for row in table["mixes"]:
        mix, told = row["mix"], row["verdict"] in TOLD
        found |= {f"loss{'' if s == 'iid' else f'_{s}'}/{mix}": row[f"loss_{s}"] for s in table["sets"]}
        found |= {f"{name}/{mix}": row[name] for name in ("long_context_gain", "flops", "real_exposures")}
        found |= {f"{name}/{mix}": row[name] for name in ("gain_per_pflop", "gain_per_mtoken", "engine_seconds")}
        found |= {f"{name}/{mix}": row[name] for name in spent.HOURS}
        found |= {f"gain/{mix}": None if row["difference"] is None else -row["difference"]}
        found |= {f"{name}/{mix}": row[name] for name in EFFICIENCY if told}
    for gap in table["gaps"]:
        name = f"gap_{gap['set']}_by_{gap['axis']}/{gap['layout']}"
        found |= {f"{name}/{point['x']:g}": point["gap"] for point in gap["points"]}
        found |= {f"{name}/slope": gap["slope"], f"{name}/mean": gap["mean"]}
    for row in table["signs"]:
        found |= {f"{name}/{row['mix']}": row.get(name) for name in SIGNS}
    for row in table["context_gaps"]:
        found |= {f"context_slope_{row['set']}/{row['mix']}": row["slope"]}
    for row in table["tasks"]:
        found |= {f"acc_{row['task']}/{row['mix']}": row["acc"]}
    for row in table["lengths"]:
        found |= {f"{name}/{row['mix']}/{row['stream']}": row[name] for name in LENGTHS}
    found |= selected.metrics(table)
    found |= _totals(table)
    return {
        re.sub(r"[^\w\-. :/]+ ?", "_", name): value
        for name, value in found.items()
        if value is not None and math.isfinite(value)
    }


def _totals(table: Mapping) -> dict[str, float | None]:
    reference = next((row for row in table["mixes"] if row["mix"] == table["reference"]), None)
    best, law, runs = best_mix(table), table["law"] or {}, table["runs"]
    told = best is not None and best["verdict"] in TOLD
    found = {f"reference/{name}": reference[key] for name, key in
             (("loss", "loss_iid"), ("loss_long", "loss_long"), ("tokens", "real_tokens"), ("flops", "flops"))
             if reference}  # fmt: skip
    named = f"loss_{table['long_context']}"
    rows = {"reference": reference, "best": best}
    found |= {f"{who}/loss_long_context": row.get(named) for who, row in rows.items() if row}
    if best:
        found |= {"best/loss": best["loss_iid"], "best/loss_long": best["loss_long"], "best/gain": -best["difference"]}
        found |= {f"best/{key}": best[key] for key in EFFICIENCY if told}
        found |= {"best/gain_margin": best["margin"], "best/gain_document_margin": best["document_margin"]}
        found |= {f"best/{key}": best[key] for key in ("flops_ratio", "generated_tokens", "gpu_hours")}
    found |= {f"law/{name}": value for name, value in law.items()}
    return found | {
        "seed_noise": table["noise"],
        "total/runs": len(runs),
        "total/trained_tokens": sum(run["tokens"]["total"] for run in runs),
        "total/flops": sum(run["flops"] for run in runs),
        "total/train_seconds": sum(run["seconds"] for run in runs),
        **{f"total/{name}": found for name, found in device_hours(runs).items()},
    }


def best_mix(table: Mapping) -> Mapping | None:
    """The mix furthest below the reference; None where none has a loss."""
    ran = [row for row in table["mixes"] if row["verdict"] != "reference" and row["difference"] is not None]
    return min(ran, key=lambda row: row["difference"], default=None)


def tags(table: Mapping, published: Published) -> dict[str, str]:
    best = best_mix(table)
    found = {"palimpsest.report": published.digest, "palimpsest.reference": table["reference"]}
    found[track.LAW] = law_text(table)[:TAG]
    said = {row["mix"]: "; ".join(caveats(row)) for row in table["mixes"]}
    found |= {f"{track.CAVEAT}{mix}": text[:TAG] for mix, text in said.items() if text}
    if best:
        found |= {"palimpsest.best_mix": best["mix"], "palimpsest.verdict": best["verdict"]}
        found["palimpsest.over_documents"] = HOLDS[best["over_documents"]]
    if told := warnings(table):
        found["palimpsest.warnings"] = " ".join(told)[:TAG]
    for gap in table["gaps"]:
        if gap["set"] == "iid" and gap["slope"] is not None:
            found[f"palimpsest.widens.{gap['axis']}.{re.sub(r'[^a-z0-9]+', '_', gap['layout'].lower())}"] = gap[
                "widens"
            ]
    return found


def tables(table: Mapping) -> dict[str, dict[str, list]]:
    """MLflow tables by file name, each as columns; the empty ones are left out."""
    rows = table["mixes"]
    found = {
        "mixes.json": {
            "mix": [row["mix"] for row in rows],
            "G": [row["generations"] for row in rows],
            "real tokens": [row["real_tokens"] for row in rows],
            "synthetic tokens": [row["synthetic_tokens"] for row in rows],
            "real text seen, times": [row["real_exposures"] for row in rows],
            "training FLOPs": [row["flops"] for row in rows],
            **{f"loss, {name}": [loss_text(row, name) for row in rows] for name in table["sets"]},
            **{
                f"to reference, {s}, ± seeds / ± documents": [
                    margins_text(r[f"difference_{s}"], r[f"margin_{s}"], r[f"document_margin_{s}"]) for r in rows
                ]
                for s in table["sets"]
            },
            f"long-context gain on {table['long_context']}, ± seeds / ± documents": [
                margins_text(r["long_context_gain"], r["long_context_margin"], r["long_context_document_margin"])
                for r in rows
            ],
            "over documents": [HOLDS[row["over_documents"]] for row in rows],
            "data efficiency": [describe(row) for row in rows],
            "to bear in mind": ["; ".join(caveats(row)) for row in rows],
        },
        "gaps.json": _columns(
            {"layout": gap["layout"], "against": gap["against"], "axis": gap["axis"], "set": gap["set"]}
            | {key: point[key] for key in ("x", "gap", "margin", "document_margin", "seeds")}
            | {f"{name}{part}": gap[f"{name}{part}"] for name in ("mean", "slope") for part in PARTS}
            | {"widens": gap["widens"], "over_documents": HOLDS[gap["over_documents"]]}
            for gap in table["gaps"]
            for point in gap["points"]
        ),
        "rises.json": _columns(
            {key: row[key] for key in ("layout", "set", "from", "to", "first", "second", "difference", *WIDTHS)}
            | {"seeds": row["seeds"], "resolved": row["resolved"], "over_documents": HOLDS[row["over_documents"]]}
            for row in table["rises"]
        ),
        "ablations.json": _columns(
            {key: row[key] for key in ("what", "from", "to", "first", "second", "set", "difference", *WIDTHS, "seeds")}
            for row in table["ablations"]
        ),
        "resolution.json": _columns(table["resolution"]),
        "laws.json": _columns(
            {"in": law["in"], "of": law["of"], "set": law["set"], **law["fit"]["law"]}
            | {f"{name} {end}": (law["fit"][end] or {}).get(name) for name in "ABC" for end in ("low", "high")}
            | {key: law["fit"][key] for key in ("points", "seeds", "r2", "resampled")}
            | {"to bear in mind": law["fit"]["problem"]}
            for law in table["laws"]
        ),
        "contexts.json": _columns(
            {key: row[key] for key in ("mix", "set", "context", "seeds")}
            | {"context tokens": tokens_seen(bucket), **bucket}
            for row in table["contexts"]
            for bucket in row["buckets"]
        ),
        "context_gaps.json": _columns(
            {key: row[key] for key in ("layout", "mix", "against", "set", "context", "seeds")}
            | {"context tokens": tokens_seen(bucket)}
            | {key: bucket[key] for key in ("first", "last", "gap", *WIDTHS)}
            | {f"slope{part}": row[f"slope{part}"] for part in PARTS}
            for row in table["context_gaps"]
            for bucket in row["buckets"]
        ),
        "cost.json": _columns(spent.costs(table)),
        "passes.json": _columns(spent.passes(table)),
        "lengths.json": _columns(table["lengths"]),
        "tasks.json": _columns(table["tasks"]),
        "signs.json": _columns(
            {key: value for key, value in row.items() if key not in ("why", "sentences")} for row in table["signs"]
        ),
        "selection.json": _columns(selected.as_table(table)),
        "ensembles.json": _columns(row for own in table["ensembles"].values() for row in own),
        "certificates.json": _columns(
            {"mix": recipe, **(found["centre"] or {})}
            | {key: found[key] for key in ("loss", "ended", "certified", "margin", "missing", "runs", "waves")}
            for recipe, found in table["certificates"].items()
        ),
    }
    return {name: columns for name, columns in found.items() if columns}


def _columns(rows) -> dict[str, list]:
    rows = list(rows)
    return {key: [row[key] for row in rows] for key in rows[0]} if rows else {}
