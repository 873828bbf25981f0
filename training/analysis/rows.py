"""One row per mix: what it was trained on, its loss on every held-out set, what it is worth and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, stdev

import numpy as np
import pyarrow as pa

from palimpsest.config import Study
from training import points
from training.analysis import paired, sampling, scaling
from training.costs import device_hours

OWN = ("iid", "short", "long")
TEXT = ("mix", "family", "layout", "strategy", "verdict", "reason", "at_end", "efficiency_fresh")
COUNTS = ("generations", "seeds", "steps", "real_tokens", "synthetic_tokens", "trained_tokens", "generated_tokens")
NUMBERS = (
    "fraction", "epochs", "lr", "weight_decay", "real_passes", "synthetic_passes", "real_exposures",
    "real_exposures_copies", "seconds", "flops", "flops_ratio", "engine_seconds", "gain_per_pflop", "gain_per_mtoken",
    "difference", "margin", "difference_fresh", "margin_fresh", "efficiency", "efficiency_low", "efficiency_high",
    "efficiency_without_floor", "efficiency_left_out_low", "efficiency_left_out_high", "long_context_gain",
    "long_context_margin", "document_margin", "document_margin_fresh", "long_context_document_margin",
    "generation_gpu_hours", "training_gpu_hours", "training_cpu_hours", "gpu_hours",
)  # fmt: skip
BOOLEANS = ("extrapolated", "familywise", "over_documents")
BY_SET = ("loss", "spread", "difference", "margin", "document_margin")


def schema(sets: Sequence[str]) -> pa.Schema:
    """Columns of table.parquet; per held-out set loss, spread, difference to the reference and its margins.

    A margin is the half width of the 95% interval over seeds, a document margin that over held-out documents.
    """
    fields = [(name, pa.string()) for name in TEXT] + [(name, pa.int64()) for name in COUNTS]
    fields += [(name, pa.float64()) for name in NUMBERS] + [(name, pa.bool_()) for name in BOOLEANS]
    fields += [(f"{kind}_{name}", pa.float64()) for name in sets for kind in BY_SET]
    return pa.schema([*fields, ("differs", pa.list_(pa.string()))])


def make_row(
    study: Study,
    name: str,
    rows: list,
    by_recipe: Mapping[str, Mapping[int, Mapping]],
    found: scaling.Efficiency,
    sets: Sequence[str],
    documents: sampling.Documents,
) -> dict:
    real, runs = real_stream(rows), by_recipe[name]
    synthetic = [row for row in rows if row["is_synthetic"]]
    mix = study.mixes[name]
    row = {
        "mix": name,
        "layout": study.layouts[mix.layout].kind,
        "strategy": study.layouts[mix.layout].strategy,
        "generations": sum(study.generations_in(mix.layouts).values()),
        "seeds": len(runs),
        "real_tokens": real["stream_tokens"],
        "synthetic_tokens": sum(r["stream_synthetic_tokens"] for r in synthetic),
        "fraction": sum(r["fraction"] for r in synthetic),
        "trained_tokens": sum(r["trained_tokens"] for r in rows),
        "real_passes": real["passes"],
        "synthetic_passes": passes([(r["trained_tokens"], r["passes"]) for r in synthetic]),
    }
    row |= dict.fromkeys(("seconds", "flops", "steps", "real_exposures", "real_exposures_copies"))
    row |= dict.fromkeys(("training_gpu_hours", "training_cpu_hours"))
    if runs:
        row |= _as_trained(study, name, next(iter(runs.values())), real)
        row["seconds"] = fmean(run["seconds"] for run in runs.values())
        row |= device_hours(list(runs.values()), len(runs))
    for kind in sets:
        losses = losses_of(runs, kind)
        row[f"loss_{kind}"] = fmean(losses.values()) if losses else None
        row[f"spread_{kind}"] = stdev(losses.values()) if len(losses) > 1 else None
        difference, margin = _to_reference(study, by_recipe, name, kind)
        row |= {f"difference_{kind}": difference, f"margin_{kind}": margin}
        row[f"document_margin_{kind}"] = documents.margin(_influence(study, by_recipe, name, kind, documents), kind)
    row["document_margin"] = row["document_margin_iid"]
    row["over_documents"] = sampling.holds(found.difference, row["document_margin"])
    efficiency = asdict(found)
    left_out = found.left_out or (None, None)
    return row | {
        **{key: efficiency[key] for key in ("verdict", "reason", "difference", "margin", "extrapolated", "familywise")},
        **_fresh(study, by_recipe, name, documents),
        **_long_context(study, by_recipe, name, documents),
        "efficiency": found.value,
        "efficiency_low": found.low,
        "efficiency_high": found.high,
        "efficiency_without_floor": found.without_floor,
        "efficiency_left_out_low": left_out[0],
        "efficiency_left_out_high": left_out[1],
    }


def _as_trained(study: Study, name: str, run: Mapping, real: Mapping) -> dict:
    """What all seeds of a mix have in common. Real text counts as often as it was a target, copies included."""
    streams, settings = run["streams"], run.get("point") or points.own(study, name)._asdict()
    total = sum(stream["sequences"] for stream in streams)
    exposed = {layout: found["real"] / real["stream_tokens"] for layout, found in run["exposures"].items()}
    return {
        "fraction": sum(stream["sequences"] for stream in streams[1:]) / total,
        "trained_tokens": run["tokens"]["total"],
        "real_passes": streams[0]["passes"],
        "synthetic_passes": passes([(stream["sequences"], stream["passes"]) for stream in streams[1:]]),
        "real_exposures": sum(exposed.values()),
        "real_exposures_copies": sum(times for layout, times in exposed.items() if layout != streams[0]["layout"]),
        "steps": run["steps"],
        "flops": float(run["flops"]),
        **{key: settings[key] for key in ("epochs", "lr", "weight_decay")},
    }


def _to_reference(study, by_recipe, name: str, kind: str) -> tuple[float | None, float | None]:
    """Loss minus that of the reference over common seeds, and its half width."""
    ours, theirs = losses_of(by_recipe[name], kind), losses_of(by_recipe[study.reference], kind)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds or name == study.reference:
        return None, None
    by_seed = [ours[seed] - theirs[seed] for seed in seeds]
    difference = fmean(by_seed)
    return (difference, paired.half_width(by_seed)) if math.isfinite(difference) else (None, None)


def _influence(study: Study, by_recipe, name: str, kind: str, documents: sampling.Documents) -> np.ndarray | None:
    """Of each held-out document on the difference to the reference."""
    if name == study.reference:
        return None
    ours, theirs = losses_of(by_recipe[name], kind), losses_of(by_recipe[study.reference], kind)
    return documents.influence(name, study.reference, kind, sorted(ours.keys() & theirs.keys()))


def _fresh(study: Study, by_recipe, name: str, documents: sampling.Documents) -> dict:
    """The difference without the seed the search chose by: the best of many points is lucky on that one."""
    found = dict.fromkeys(("difference_fresh", "margin_fresh", "document_margin_fresh"))
    if study.search is None or name == study.reference:
        return found
    kept = {
        recipe: {seed: run for seed, run in by_recipe[recipe].items() if seed != study.search.seed}
        for recipe in (name, study.reference)
    }
    over = documents.margin(_influence(study, kept, name, "iid", documents), "iid")
    return dict(zip(found, (*_to_reference(study, kept, name, "iid"), over), strict=True))


def _long_context(study: Study, by_recipe, name: str, documents: sampling.Documents) -> dict:
    """How much more is gained with a long context than on all: the difference of the two sets is one more 'loss'."""
    long = study.judging.long_context
    extra = {
        recipe: {
            seed: {"losses": {long: run["losses"][long] - run["losses"]["iid"]}}
            for seed, run in runs.items()
            if run["losses"].get(long) is not None and run["losses"].get("iid") is not None
        }
        for recipe, runs in by_recipe.items()
    }
    if not extra.get(name) or not extra.get(study.reference):
        return dict.fromkeys(("long_context_gain", "long_context_margin", "long_context_document_margin"))
    difference, margin = _to_reference(study, extra, name, long)
    on_long, on_all = (_influence(study, by_recipe, name, kind, documents) for kind in (long, "iid"))
    both = None if on_long is None or on_all is None else on_long - on_all
    return {
        "long_context_gain": None if difference is None else -difference,
        "long_context_margin": margin,
        "long_context_document_margin": documents.margin(both, long, "iid"),
    }


def cost(study: Study, row: Mapping, rows: Sequence[Mapping], spent: Mapping[tuple, Mapping]) -> dict:
    """Of the whole mix and one run of it; gain is what it is better than the reference, in nats."""
    reference = next((r for r in rows if r["mix"] == study.reference), None)
    generated = spent.get(study.mixes[row["mix"]].layouts) or {"output_tokens": 0, "engine_seconds": None}
    writing = generated.get("gpu_seconds", None if study.mixes[row["mix"]].f else 0.0)
    hours = {"generation_gpu_hours": None if writing is None else writing / 3600}
    both = (hours["generation_gpu_hours"], row["training_gpu_hours"])
    gain = None if row["difference"] is None or row["verdict"] == "reference" else -row["difference"]
    tokens = generated["output_tokens"]
    flops = row["flops"]
    return {
        **hours,
        "gpu_hours": None if None in both else sum(both),
        "generated_tokens": tokens,
        "engine_seconds": generated["engine_seconds"],
        "flops_ratio": flops / reference["flops"] if flops and reference and reference["flops"] else None,
        "gain_per_pflop": gain / (flops / 1e15) if gain is not None and flops else None,
        "gain_per_mtoken": gain / (tokens / 1e6) if gain is not None and tokens else None,
    }


def passes(streams: Sequence[tuple[float, float]]) -> float:
    """Over several streams together, of which each is so much text (in any unit) and so many passes."""
    once = sum(trained / times for trained, times in streams if times)
    return sum(trained for trained, _ in streams) / once if once else 0.0


def losses_of(runs: Mapping[int, Mapping], name: str) -> dict[int, float]:
    return {seed: run["losses"][name] for seed, run in runs.items() if run["losses"].get(name) is not None}


def real_stream(rows: Sequence[Mapping]) -> Mapping:
    """Of a recipe's rows of mixes.parquet."""
    return next(row for row in rows if not row["is_synthetic"])
