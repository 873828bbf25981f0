"""Megadocs and mixes: the study's layouts and recipes as rows, handed to dbt, published as tables."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest import align, warehouse
from palimpsest.config import Study
from palimpsest.generate.publish import THINK_CLOSE, THINK_OPEN
from palimpsest.lake import Facts, Lake, LakeError, Published
from palimpsest.provenance import lineage_of_mixes
from palimpsest.tokenizer import BOUNDARY

LAYOUTS = pa.schema(
    [
        ("layout", pa.string()),
        ("kind", pa.string()),
        ("strategies", pa.list_(pa.string())),
        ("generations", pa.int32()),
        ("places", pa.int32()),  # of a stretched layout's rationales: sample g stands at g mod places
        ("real_place", pa.string()),
        ("seed", pa.int32()),
    ]
)
RECIPES = pa.schema(
    [
        ("recipe", pa.string()),
        ("role", pa.string()),
        ("share", pa.float64()),
        ("real_layout", pa.string()),
        ("fraction", pa.float64()),
        ("epochs", pa.float64()),
        ("max_tokens", pa.int64()),
        ("max_ratio", pa.float64()),
        ("context", pa.int64()),
        ("batch", pa.int64()),
        ("block", pa.int64()),
        ("packing", pa.string()),
    ]
)
STREAMS = pa.schema(
    [
        ("recipe", pa.string()),
        ("layout", pa.string()),
        ("is_synthetic", pa.bool_()),
        ("starts_at", pa.float64()),
        ("ends_at", pa.float64()),
    ]
)
MARKS = {"boundary": BOUNDARY, "think_open": THINK_OPEN, "think_close": THINK_CLOSE}
CODE = (
    "plugins/palimpsest/mixes.py",
    "plugins/palimpsest/packing.py",
    "plugins/palimpsest/provenance.py",
    "plugins/palimpsest/warehouse.py",
    "dbt_project/dbt_project.yml",
    "dbt_project/macros",
    "dbt_project/models/study",
    "dbt_project/tests/study",
)


def build_mixes(
    study: Study,
    lake: Lake,
    *,
    split: Published,
    plan: Published,
    generations: Published,
    selection: Published | None = None,
) -> Published:
    """``studies/<s>/mixes``: megadoc_parts, megadocs, mixes and mix_shares (what each recipe is made of, by origin).

    The mix manifest stands in ``extra['mixes']``, what a model trained on a recipe inherits in ``extra['lineage']``.
    ``selection`` has the scores that layouts select by.
    """
    weights = align.weigh(study, lake, split=split, generations=generations, selection=selection)
    guard = study.guard.model_dump(include={"domain", "domain_min_share"})
    guard |= study.guard.thresholds.model_dump(include={"real_min", "depth_max"})

    def write(directory: Path) -> Facts:
        with tempfile.TemporaryDirectory() as folder:
            inputs = tables_of(study, Path(folder), split=split, plan=plan, generations=generations, weights=weights)
            variables = {**MARKS, "guard": guard}
            warehouse.build("path:models/study path:tests/study", inputs=inputs, variables=variables, out=directory)
        mixes = pq.read_table(directory / "mixes.parquet").to_pylist()
        _check_trainable(study, mixes)
        shares = pq.read_table(directory / "mix_shares.parquet").to_pylist()
        return Facts(extra={"mixes": mixes, "lineage": lineage_of_mixes(shares)})

    config = {"layouts": layout_rows(study), "recipes": recipe_rows(study), "marks": MARKS, "guard": guard}
    config["streams"] = stream_rows(study)
    parents = [split, plan, generations, *([weights] if weights else [])]
    return lake.publish(f"studies/{study.name}/mixes", write, config=config, parents=parents, code=CODE)


def tables_of(
    study: Study,
    folder: Path,
    *,
    split: Published,
    plan: Published,
    generations: Published,
    weights: Published | None = None,
) -> dict[str, Path]:
    """The files that the models of a study read; its layouts and recipes are written to ``folder``."""
    own = {"layouts": (layout_rows(study), LAYOUTS), "recipes": (recipe_rows(study), RECIPES)}
    own["streams"] = (stream_rows(study), STREAMS)
    for name, (rows, schema) in own.items():
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")
    unweighed = folder / "unweighed.parquet"
    pq.write_table(align.WEIGHTS.empty_table(), unweighed)
    return {
        "study_documents": split.file("train.parquet"),
        "study_validation": split.file("validation.parquet"),
        "study_generations": generations.file("generations.parquet"),
        "study_generation_drops": generations.file("generation_drops.parquet"),
        "study_slices": plan.file("slices.parquet"),
        **{f"study_{name}": folder / f"{name}.parquet" for name in own},
        "study_weights": weights.file("weights.parquet") if weights else unweighed,
    }


def layout_rows(study: Study) -> list[dict[str, object]]:
    """One row per layout, with the study's defaults filled in."""
    rows = []
    for name, layout in study.layouts.items():
        planned = max((study.first_of(layout, name) for name in layout.strategies), default=0)
        rows.append(
            {
                "layout": name,
                "kind": layout.kind,
                "strategies": layout.strategies,
                "generations": planned,
                "places": study.places_of(layout),
                "real_place": layout.real,
                "seed": layout.seed,
            }
        )
    return rows


def recipe_rows(study: Study) -> list[dict[str, object]]:
    """One row per training recipe: every mix, and the reference mix again at each reference share of the real text.

    Epochs and f are those the mix is written with: a search goes on from there (`training.points`).
    """
    rows = []
    for name, mix in study.mixes.items():
        training = study.training_of(name)
        common = {"context": training.context, "batch": training.batch, "block": training.block}
        common["packing"] = training.packing
        common["real_layout"] = study.real_layout
        details = {"fraction": mix.f, "epochs": mix.epochs}
        details |= {"max_tokens": mix.max_tokens, "max_ratio": mix.max_ratio}
        rows.append({"recipe": name, "role": "mix", "share": mix.real_share or study.real_share, **details, **common})
        if name == study.reference:
            rows += [
                {"recipe": recipe, "role": "reference", "share": share, **details, **common}
                for recipe, share in study.reference_recipes.items()
            ]
    return rows


def stream_rows(study: Study) -> list[dict[str, object]]:
    """One row per recipe and stream: the part of every block's sequences that is dealt to it, the real one last."""
    rows = []
    for recipe in (row["recipe"] for row in recipe_rows(study)):
        mix = study.mix_of(recipe)
        places = [(layout, mix.f * end) for layout, end in mix.streams.items()] + [(study.real_layout, 1.0)]
        starts = [0.0, *(end for _, end in places)]
        for (layout, end), start in zip(places, starts, strict=False):
            place = {"starts_at": start, "ends_at": end}
            rows.append({"recipe": recipe, "layout": layout, "is_synthetic": layout in mix.streams, **place})
    return rows


def _check_trainable(study: Study, mixes: list[dict]) -> None:
    for row in mixes:
        if row["steps"] < 1:
            training = study.training_of(row["recipe"])
            raise LakeError(
                f"study {study.name}: recipe '{row['recipe']}' would train for no step: its real stream holds "
                f"{row['steps_per_real_epoch']} whole batches of {training.batch} windows of "
                f"{training.context} tokens; lower training.batch or training.context in {study.path}"
            )
