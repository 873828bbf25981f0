"""The stages of a labelled study, each published to ``labelled/<name>/...``: plan, a measurement per seed, the card
(`palimpsest.labelled.card`), and the repaired data.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palimpsest.config import Labelled, matching
from palimpsest.labelled import coverage, items
from palimpsest.labelled.arms import Bench, arms, curve, fidelity, noise
from palimpsest.labelled.audit import audit, verified
from palimpsest.labelled.coverage import Cell
from palimpsest.labelled.deal import Deal, deal
from palimpsest.labelled.draft import Drafts, draft
from palimpsest.labelled.generators import Writer, writer
from palimpsest.labelled.items import Items
from palimpsest.lake import Facts, Lake, LakeError, Published, Rows, digest_json

HERE = "plugins/palimpsest/labelled"
PLANNED = [f"{HERE}/{name}.py" for name in ("coverage", "items")]
MEASURED = [f"{HERE}/{name}.py" for name in ("arms", "audit", "deal", "draft", "generators", "learner", "score")]
MEASURED += [*PLANNED, f"{HERE}/separate.py", f"{HERE}/stages.py", "plugins/palimpsest/words.py"]
MEASURED += [f"plugins/palimpsest/guard/{name}.py" for name in ("distance", "duplicates", "tokens", "trigram")]
PLAN = ("source", "test", "validation", "train", "starve", "coverage")
SEED = (*PLAN, "generator", "verification", "learner", "curve")


def _config(study: Labelled, keys: Sequence[str]) -> dict[str, object]:
    return {key: found for key, found in study.model_dump(mode="json").items() if key in keys}


def plan(study: Labelled, lake: Lake) -> Published:
    """``labelled/<name>/plan``: coverage.parquet, a row per cell, and items.parquet, the real items."""

    def write(directory: Path) -> Facts:
        found, rows = items.read(study)
        cells = coverage.plan(study, found)
        pq.write_table(pa.Table.from_pylist([cell.as_dict() for cell in cells]), directory / "coverage.parquet")
        pq.write_table(_table(found), directory / "items.parquet")
        names = {"labels": list(found.labels), "groups": list(found.groups)}
        return Facts(rows, names | {"planned": sum(cell.planned for cell in cells)})

    # a source is known by its files: another size or time of one makes another plan
    files = sorted(file for pattern in study.source.files for file in matching(pattern))
    stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    config = _config(study, PLAN) | {"files": digest_json(stamps)}
    return lake.publish(f"labelled/{study.name}/plan", write, config=config, code=PLANNED)


def _table(found: Items) -> pa.Table:
    values = found.values.tolist() if isinstance(found.values, np.ndarray) else found.values
    kind = "pixels" if isinstance(found.values, np.ndarray) else "text"
    return pa.table({"key": found.keys, kind: values, "cell": found.cells})


def opened(planned: Published) -> tuple[Items, list[Cell]]:
    """What `plan` published."""
    table = pq.read_table(planned.file("items.parquet"))
    images = "pixels" in table.column_names
    values = np.array(table["pixels"].to_pylist()) if images else table["text"].to_pylist()
    names = (tuple(planned.extra[key]) for key in ("labels", "groups"))
    found = Items(table["key"].to_pylist(), values, table["cell"].to_numpy(), *names)
    return found, [Cell(**row) for row in pq.read_table(planned.file("coverage.parquet")).to_pylist()]


def measure(study: Labelled, lake: Lake, planned: Published, seed: int) -> Published:
    """``labelled/<name>/seeds/<seed>``: generated.parquet with provenance and verdicts, figures.json with every arm."""

    def write(directory: Path) -> Facts:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            found, cells = opened(planned)
            dealt = deal(study, found, cells, seed)
            _check(study, found, cells, dealt)
            author = writer(study, found.values, found.keys, lake)
            drafts = draft(study, found, cells, dealt, author, seed)
            keys = [f"{study.name}:{seed}:{place}" for place in range(len(drafts.drafts))]
            bench = Bench.of(study, found, cells, dealt, drafts, seed)
            found_arms = arms(bench)
            figures = {
                "seed": seed,
                "arms": found_arms,
                "curve": curve(bench, found_arms),
                "fidelity": fidelity(bench),
                "noise": noise(bench),
                "verifier": verified(bench),
                "audit": audit(study, bench),
                "real_dropped": dict(dealt.dropped),
                "real_left": {name: int((found.cells[dealt.train] == c).sum()) for c, name in enumerate(found.names)},
                "separation": _separation(dealt, drafts),
            }
        (directory / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        pq.write_table(_generated(found, cells, drafts, author, keys), directory / "generated.parquet")
        lost = Counter(verdict for verdict in drafts.verdicts.tolist() if verdict != "accepted")
        kept = len(drafts.drafts) - sum(lost.values())
        return Facts(Rows(len(drafts.drafts), kept, dict(lost)))

    config = _config(study, SEED) | {"seed": seed}
    # what people say of drafts changes none: the card reads it
    config["verification"] = {k: v for k, v in config["verification"].items() if not k.startswith("audit")}
    return lake.publish(
        f"labelled/{study.name}/seeds/{seed}", write, config=config, parents=[planned], code=MEASURED
    )  # fmt: skip


def _check(study: Labelled, found: Items, cells: Sequence[Cell], dealt: Deal) -> None:
    left = np.bincount(found.cells[dealt.train], minlength=len(cells))
    if len(np.unique(found.label[dealt.train])) < 2:
        raise LakeError(
            f"{study.path}: fewer than two labels have an item to train on that stands apart from validation and test "
            "items; the source repeats itself, give it other texts"
        )
    for cell, count in zip(cells, left, strict=True):
        if cell.planned and count < study.coverage.min_seeds:
            raise LakeError(
                f"{study.path}: cell {cell.cell}: {count} of its {cell.real} real items stand apart from validation "
                f"and test items, {study.coverage.min_seeds} are needed to generate from; give it more rows, or lower "
                "'test'"
            )


def _separation(dealt: Deal, drafts: Drafts) -> dict[str, int]:
    """Drafts turned away for standing near a validation or test item, and accepted ones that do so all the same."""
    accepted = [one for one, v in zip(drafts.drafts, drafts.verdicts, strict=True) if v == "accepted"]
    values = [one.value for one in accepted]
    if values and not isinstance(values[0], str):
        values = np.stack(values)
    still = sum(why is not None for why in dealt.protected.offences(values))
    return {"accepted": len(accepted), "turned_away": int((~drafts.separate).sum()), "still_near": still}


def _generated(
    found: Items, cells: Sequence[Cell], drafts: Drafts, author: Writer, keys: Sequence[str]
) -> pa.Table:  # fmt: skip
    images = isinstance(found.values, np.ndarray)
    used = np.zeros(len(keys), bool)
    used[drafts.first(drafts.verdicts == "accepted", cells, 1)] = True
    many = len(keys)
    seeds = pa.array([[found.keys[place] for place in one.seeds] for one in drafts.drafts], pa.list_(pa.string()))
    return pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "pixels" if images else "text": [one.value.tolist() if images else one.value for one in drafts.drafts],
            "label": pa.array([cells[c].label for c in drafts.cells], pa.string()),
            "group": pa.array([cells[c].group for c in drafts.cells], pa.string()),
            "label_source": ["generator"] * many,
            "origin": ["synthetic"] * many,
            "depth": pa.array([author.depth] * many, pa.int32()),
            "grounded": [True] * many,
            "seed_keys": seeds,
            "generator": [author.name] * many,
            "generator_mix": pa.array([author.mix] * many, pa.string()),
            "prompt_sha256": pa.array([author.prompt] * many, pa.string()),
            "decoding": [author.decoding] * many,
            "verifier": ["validation items, logistic regression"] * many,
            "verdict": pa.array(drafts.verdicts.tolist(), pa.string()),
            "confidence": pa.array(drafts.confidence, pa.float64()),
            "planted": pa.array(drafts.planted.tolist(), pa.bool_()),
            "used": used,
        }
    )
