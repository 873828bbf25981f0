"""A point of a search (lr, weight decay, epochs, f) and the run it makes of a recipe: steps, sequences, passes.

The rule is that of the dbt model ``mixes`` (megadocs paper, section 4), here for any epochs and f:
``steps = floor(whole batches of the real stream * epochs / (1 - f))``, dealt in blocks by `training.data`; with f = 1
``floor(whole batches of the synthetic stream * epochs)``, the paper's run without a separate real stream (6.3).
A *recipe* is given as its rows of ``mixes.parquet``, one per stream: their tokens count, not their epochs and f.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from palimpsest.config import Study
from palimpsest.lake import LakeError, NotPublished, Published
from training import data
from training.flops import flops_per_token

Rows = Sequence[Mapping[str, Any]]


class Point(NamedTuple):
    """Fields in the order of `palimpsest.config.mixes.AXES`."""

    lr: float
    weight_decay: float
    epochs: float
    f: float

    @property
    def real_share(self) -> float:
        """Share of the stream whose passes the epochs count: the real one, or where there is none, the synthetic."""
        return 1 - self.f if self.f < 1 else 1.0

    def __str__(self) -> str:
        names = {"lr": self.lr, "wd": self.weight_decay, "e": self.epochs} | ({"f": self.f} if self.f else {})
        return "-".join(f"{name}{value:.10g}" for name, value in names.items())


def recipes(mixes: Published) -> dict[str, list[dict]]:
    """The rows of each recipe, as the mixes have them, each with the size of their tokenizer's ``vocabulary``."""
    found: dict[str, list[dict]] = {}
    vocabulary = _vocabulary(mixes)
    for row in pq.read_table(mixes.file("mixes.parquet")).to_pylist():
        found.setdefault(row["recipe"], []).append(row | {"vocabulary": vocabulary})
    return found


def own(study: Study, recipe: str) -> Point:
    """The point the study file writes for the recipe: where a search of it starts."""
    mix, optimizer = study.mix_of(recipe), study.training_of(recipe).optimizer
    return Point(optimizer.lr, optimizer.weight_decay, mix.epochs, mix.f)


def of(study: Study, run: Mapping[str, Any]) -> Point:
    """The point of a run; a run of a study without search, like or match has that of its recipe."""
    return Point(**run["point"]) if "point" in run else own(study, run["recipe"])


def at(study: Study, rows: Rows, point: Point, seed: int) -> dict:
    """The run of a recipe at a point: a JSON-able dict, its real stream first, then the synthetic ones.

    ``point`` and ``training`` (what the run's settings have otherwise than the study's) are in it where the study
    searches or follows. Raises `LakeError` where there would be no step, or more synthetic text than its gate allows.
    """
    rows = in_order(study, rows)
    recipe, training = rows[0]["recipe"], study.training_of(rows[0]["recipe"])
    steps = steps_at(study, rows, point)
    if steps < 1:
        raise LakeError(
            f"recipe {recipe}: not one step of {training.batch} windows of {training.context} tokens in "
            f"{point.epochs:g} epochs of {rows[0]['stream_tokens']} tokens; lower training.batch or training.context"
        )
    sequences = data.sequences_per_stream(steps, training.batch, training.block, point.f, ends(study, recipe))
    run = {
        "run": f"{recipe}-{point}-s{seed}" if study.is_searched(recipe) else f"{recipe}-s{seed}",
        "recipe": recipe,
        "role": rows[0]["role"],
        "share": float(rows[0]["share"]),
        "seed": seed,
        "f": float(point.f),
        "epochs": float(point.epochs),
        "steps": steps,
        "streams": [
            {
                "layout": row["layout"],
                "tokens": int(row["stream_tokens"]),
                "sequences": count,
                "passes": count / row["windows"],
                "synthetic_share": row["stream_synthetic_tokens"] / row["stream_tokens"],
            }
            for row, count in zip(rows, sequences, strict=False)
        ],
    }
    if study.mix_of(recipe).beside:
        run["ends"] = list(ends(study, recipe))
    if point != own(study, recipe):
        _gated(study, run)
    return run | (_settings(study, recipe, point) if _tunes(study) else {})


def in_order(study: Study, rows: Rows) -> list[Mapping[str, Any]]:
    """A recipe's streams: the real one, then the synthetic ones as its mix names them."""
    places = [study.real_layout, *study.mix_of(rows[0]["recipe"]).streams]
    return sorted(rows, key=lambda row: places.index(row["layout"]))


def ends(study: Study, recipe: str) -> tuple[float, ...]:
    """Where each synthetic stream's part of f ends, as `training.data` deals them."""
    return tuple(study.mix_of(recipe).streams.values()) or data.ONE


def applied(study: Study, run: Mapping[str, Any]) -> Study:
    """The study with ``training`` as this run has it. For the run alone: other mixes may not fit these settings."""
    if not run.get("training"):
        return study
    return study.model_copy(update={"training": study.training.changed(run["training"])})


def possible(study: Study, recipe: str, point: Point) -> bool:
    """Whether the study can come to this point of the recipe."""
    written, mix = own(study, recipe), study.mix_of(recipe)
    if mix.like:
        return True
    if mix.match:
        return point._replace(epochs=written.epochs) == written
    if not study.is_searched(recipe):
        return point == written
    search = study.search_of(recipe)
    axes = search.axes(mix)
    return all(
        value in getattr(search, axis) if axis in axes else value == getattr(written, axis)
        for axis, value in point._asdict().items()
    )


def resolve(study: Study, found: Mapping[str, Rows], best: Mapping[str, Point]) -> dict[str, Point]:
    """The point each recipe is trained at in the end, given the best ones of those that are searched.

    Raises `LakeError` where one of them is missing.
    """
    written = {recipe: own(study, recipe) for recipe in found if not study.is_searched(recipe)}
    points = written | {recipe: best[recipe] for recipe in found if study.is_searched(recipe) and recipe in best}
    missing = sorted(found.keys() - points.keys())
    if missing:
        raise LakeError(
            f"study {study.name}: the settings of {', '.join(missing)} are found by a search that has not ended; "
            f"run python -m training search {study.name}"
        )
    for recipe in found:
        mix = study.mix_of(recipe)
        if mix.like:
            points[recipe] = points[mix.like]
        if mix.match:
            other = at(study, found[mix.match.mix], points[mix.match.mix], 0)
            points[recipe] = matched(study, found[recipe], mix.match.by, other)
    return points


def matched(study: Study, rows: Rows, by: str, other: Mapping[str, Any]) -> Point:
    """The recipe's own point, with the epochs whose run is nearest to ``other`` in what ``by`` counts (`spent`)."""
    point = own(study, rows[0]["recipe"])
    batch, vocabulary = study.training_of(rows[0]["recipe"]).batch, rows[0].get("vocabulary")
    run, wanted = at(study, rows, point, 0), spent(study, other, by, vocabulary)

    def costs(steps: int) -> float:
        block = study.training_of(run["recipe"]).block
        sequences = data.sequences_per_stream(steps, batch, block, point.f, ends(study, run["recipe"]))
        streams = [
            stream | {"sequences": count, "passes": count * stream["passes"] / max(stream["sequences"], 1)}
            for stream, count in zip(run["streams"], sequences, strict=False)
        ]
        return spent(study, run | {"steps": steps, "streams": streams}, by, vocabulary)

    low, high = 1, 1
    while costs(high) < wanted:
        low, high = high, 2 * high
    while low < high:  # the fewest steps that cost as much
        middle = (low + high) // 2
        low, high = (middle + 1, high) if costs(middle) < wanted else (low, middle)
    steps = low - 1 if low > 1 and wanted - costs(low - 1) <= costs(low) - wanted else low
    point = point._replace(epochs=steps * point.real_share / _batches(study, rows, point))
    while steps_at(study, rows, point) < steps:  # rounded down by a last bit
        point = point._replace(epochs=math.nextafter(point.epochs, math.inf))
    return point


def spent(study: Study, run: Mapping[str, Any], by: str, vocabulary: int | None = None) -> float:
    """FLOPs of a run ('compute', as its evaluation counts them), its trained tokens ('tokens'), or those of real text
    among them ('real_tokens'). A FLOP count needs the ``vocabulary``.

    The copies inside a synthetic stream count as often as that stream's own sequences pass over them. (The authors'
    analysis divides all sequences by that stream's size, which over-counts them by 1 / f.)
    """
    training = study.training_of(run["recipe"])
    tokens = run["steps"] * training.batch * training.context
    if by == "tokens":
        return tokens
    if by == "compute":
        if vocabulary is None:
            raise LakeError(
                f"mixes.{run['recipe']}: matching by compute counts the FLOPs of the output matrix, and the lake no "
                "longer has the split whose tokenizer says how large that is; run "
                f"python -m palimpsest split {study.name}"
            )
        return tokens * flops_per_token(training.model, vocabulary, training.context)
    if training.packing == "cut":
        return training.context * sum(s["sequences"] * (1 - s["synthetic_share"]) for s in run["streams"])
    return sum(s["tokens"] * s["passes"] * (1 - s["synthetic_share"]) for s in run["streams"])


def _vocabulary(mixes: Published) -> int | None:
    """None where the lake has lost the split that the mixes were made of."""
    split = next((parent for parent in mixes.manifest["parents"] if parent["dataset"].endswith("/split")), None)
    try:
        return split and mixes.lake.open(split["uri"]).extra.get("vocabulary")
    except NotPublished:
        return None


def _batches(study: Study, rows: Rows, point: Point) -> int:
    """Whole batches in one pass over the stream whose passes are the epochs."""
    training = study.training_of(rows[0]["recipe"])
    counted = [row["windows"] for row in rows if (row["layout"] == study.real_layout) == (point.f < 1)]
    return sum(counted) // training.batch


def steps_at(study: Study, rows: Rows, point: Point) -> int:
    """Of a run of a recipe, whose ``rows`` are in order, at a point."""
    # 1e-9 as in SQL: it keeps a whole number whole
    return math.floor(_batches(study, rows, point) * point.epochs / point.real_share + 1e-9)


def _tunes(study: Study) -> bool:
    """Whether runs of this study may have other settings than its 'training'."""
    return study.search is not None or any(mix.like or mix.match or mix.training for mix in study.mixes.values())


def _settings(study: Study, recipe: str, point: Point) -> dict:
    changed = study.mix_of(recipe).training
    optimizer = {**changed.get("optimizer", {}), "lr": point.lr, "weight_decay": point.weight_decay}
    return {"point": point._asdict(), "training": {**changed, "optimizer": optimizer}}


def _gated(study: Study, run: Mapping[str, Any]) -> None:
    """The gate has judged the mixes as they are written; what a search makes of them keeps to it too."""
    total = sum(stream["sequences"] for stream in run["streams"])
    share = sum(stream["sequences"] * stream["synthetic_share"] for stream in run["streams"]) / total
    if share > study.gates.max_synthetic_share:
        raise LakeError(
            f"run {run['run']}: {share:.1%} of its tokens would be synthetic, above gates.max_synthetic_share "
            f"{study.gates.max_synthetic_share:g}; take f {run['f']:g} out of 'search.f' or raise the gate"
        )
