"""Sections of a report as Markdown tables: what each mix cost, and how long and how often read its streams are."""

from __future__ import annotations

from collections.abc import Mapping

from training.analysis import spent
from training.analysis.lengths import UNITS
from training.analysis.markdown import or_dash, rows_of
from training.analysis.words import lengths_text, short
from training.bill import hours

COST = {
    "mix": lambda r: r["mix"],
    "real text seen, times": lambda r: or_dash(r["real_exposures"], ".1f"),
    "of it in copies": lambda r: or_dash(r["real_exposures_copies"], ".1f"),
    "steps": lambda r: or_dash(r["steps"], ","),
    "tokens trained": lambda r: short(r["trained_tokens"]),
    "training FLOPs": lambda r: "–" if r["flops"] is None else short(r["flops"]),
    "times the reference's": lambda r: or_dash(r["flops_ratio"], ".2f"),
    "train seconds": lambda r: or_dash(r["seconds"], ".0f"),
    "tokens generated": lambda r: short(r["generated_tokens"]) if r["generated_tokens"] else "–",
    "engine seconds": lambda r: or_dash(r["engine_seconds"], ".0f"),
    "gain, nats": lambda r: or_dash(r["gain"], "+.4f"),
    "gain per training PFLOP": lambda r: or_dash(r["gain_per_pflop"], ".3g"),
    "gain per M generated": lambda r: or_dash(r["gain_per_mtoken"], ".3g"),
}
HOURS_OF = (
    "GPU hours to write the mix's text once and to train one run of it; runs on a CPU have hours of that. Recorded and "
    "augmented text takes no GPU here, whatever it took where it was made. A search and further seeds come on top."
)
MULTIPLE = {
    "mix": lambda r: r["mix"],
    "data efficiency": lambda r: r["data efficiency"],
    "GPU hours to generate": lambda r: hours(r["generation_gpu_hours"]),
    "GPU hours to train": lambda r: hours(r["training_gpu_hours"]),
    "GPU hours, both": lambda r: hours(r["gpu_hours"]),
    "CPU hours to train": lambda r: hours(r["training_cpu_hours"]),
    "to bear in mind": lambda r: r["to bear in mind"] or "–",
}
PASSES = {
    "mix": lambda r: r["mix"],
    "stream": lambda r: r["stream"],
    "synthetic text in it": lambda r: f"{r['synthetic_share']:.0%}",
    "tokens": lambda r: short(r["tokens"]),
    "share of windows": lambda r: f"{r['share']:.2f}",
    "passes": lambda r: f"{r['passes']:.2f}",
}
LENGTHS = {
    "mix": lambda r: r["mix"],
    "stream": lambda r: r["stream"],
    "context": lambda r: f"{r['context']:,}",
    **{f"{unit}: mean, median, 90%, longest": (lambda r, unit=unit: lengths_text(r, unit)) for unit in UNITS},
    **{f"{unit} longer than the context": (lambda r, unit=unit: f"{r[f'{unit}_over_context']:.1%}") for unit in UNITS},
    "versions of a text per window": lambda r: f"{r['versions_per_window']:.1f}",
}


def cost(table: Mapping) -> str:
    return rows_of("## What it cost", spent.costs(table), COST)


def multiples(table: Mapping) -> str:
    return rows_of(f"## What each multiple cost\n\n{HOURS_OF}", spent.costs(table), MULTIPLE)


def passes(table: Mapping) -> str:
    return rows_of("## Passes over each stream", spent.passes(table), PASSES)


def lengths(table: Mapping) -> str:
    said = "In tokens, each text with its boundary. A version counts where a window shows a part of it."
    return rows_of(f"## How long the texts are\n\n{said}", table["lengths"], LENGTHS)
