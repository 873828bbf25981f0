"""What each mix cost and how often it went through each of its streams: rows for the pages and for MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from training.analysis.words import TOLD, caveats, describe

COST = (
    "real_exposures", "real_exposures_copies", "steps", "trained_tokens", "flops", "flops_ratio", "seconds",
    "generated_tokens", "engine_seconds", "gain", "gain_per_pflop", "gain_per_mtoken",
)  # fmt: skip
HOURS = ("generation_gpu_hours", "training_gpu_hours", "gpu_hours", "training_cpu_hours")
EFFICIENCY = ("efficiency", "efficiency_low", "efficiency_high")


def costs(table: Mapping) -> list[dict]:
    """A row per mix: mix, `COST`, `HOURS`, and beside them what it is worth: `EFFICIENCY`, in words, with its caveat.

    Seconds and hours of training are of one run, those of generation of all its text; gain is what its loss lies below
    the reference's.
    """
    return [
        {
            "mix": row["mix"],
            **{key: _gain(row) if key == "gain" else row[key] for key in (*COST, *HOURS)},
            **{key: row[key] if row["verdict"] in TOLD else None for key in EFFICIENCY},
            "data efficiency": describe(row),
            "to bear in mind": "; ".join(caveats(row)),
        }
        for row in table["mixes"]
    ]


def passes(table: Mapping) -> list[dict]:
    """A row per mix and stream, as trained: mix, stream, synthetic_share, tokens, share (of windows) and passes."""
    runs = {run["recipe"]: run for run in reversed(table["runs"])}  # all seeds of a mix go through the same
    found = []
    for row in table["mixes"]:
        streams = runs[row["mix"]]["streams"] if row["mix"] in runs else []
        total = sum(stream["sequences"] for stream in streams)
        found += [
            {
                "mix": row["mix"],
                "stream": stream["layout"],
                "synthetic_share": stream["synthetic_share"],
                "tokens": stream["tokens"],
                "share": stream["sequences"] / total,
                "passes": stream["passes"],
            }
            for stream in streams
        ]
    return found


def _gain(row: Mapping) -> float | None:
    return None if row["difference"] is None or row["verdict"] == "reference" else -row["difference"]
