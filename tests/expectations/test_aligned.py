"""What the gate makes of aligned layouts: they lack nothing that they left out, and their choice is judged."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from expectations import measure
from expectations.guard.aligned import judge_aligned
from expectations.guard.found import Found
from palimpsest.align import WEIGHTS
from palimpsest.lake import Facts
from tests.expectations.conftest import GENERATIONS, TRAIN
from tests.expectations.defects import change

LEFT_OUT = {GENERATIONS[0]["generation_id"], GENERATIONS[3]["generation_id"]}
VIEWS = {"train": "split", "validation": "split", "generations": "generations"}
VIEWS |= {"megadoc_parts": "mixes", "megadocs": "mixes"}


def aligned(world) -> None:
    layout = world.study.layouts["stitched"].model_copy(update={"align": "importance"})
    layouts = {**world.study.layouts, "stitched": layout}
    world.study = world.study.model_copy(update={"layouts": layouts})


def publish_weights(world, effects=(), why=""):
    rows = [
        {"layout": "stitched", "document_id": g["document_id"], "generation_id": g["generation_id"], "weight": 1.0,
         "strategy": "rephrase", "g": g["g"], "score": 0.0, "draw": 0.5, "keeps": g["generation_id"] not in LEFT_OUT}
        for g in GENERATIONS
    ]  # fmt: skip
    counts = {"texts": 18, "kept": 16, "effective": 12.5}
    told = {"clip": 2.0, "generations": counts, "unmeasured": {"rephrase": why}}
    told["unknown_documents"] = {"texts": 0, "kept": 0, "effective": 0.0}

    def write(directory):
        pq.write_table(pa.Table.from_pylist(rows, WEIGHTS), directory / "weights.parquet")
        columns = {"layout": "stitched", "strategy": "rephrase", "texts": 16}
        schema = pa.schema([(n, pa.string()) for n in ("layout", "strategy", "measure")] + [("texts", pa.int64())])
        for name in ("before", "after", "real_mean", "real_sd"):
            schema = schema.append(pa.field(name, pa.float64()))
        table = pa.Table.from_pylist([columns | row for row in effects], schema)
        pq.write_table(table, directory / "effects.parquet")
        return Facts(extra={"layouts": {"stitched": told}})

    return world.lake.publish("studies/toy/alignment", write, config={"effects": list(effects), "why": why})


def without_left_out(rows):
    """The parts of an aligned layout; numbers of parts in megadocs are not looked at here."""
    gone = {(g["document_id"], g["g"]) for g in GENERATIONS if g["generation_id"] in LEFT_OUT}
    return [row for row in rows if row["layout"] == "real" or (row["document_id"], row["g"]) not in gone]


def test_what_an_aligned_layout_left_out_is_not_missing(world):
    aligned(world)
    found = world.publish(change("megadoc_parts", without_left_out))
    connection = measure.connect({name: found[stage] for name, stage in VIEWS.items()})
    for weights, missing in ((publish_weights(world), 0), (None, len(LEFT_OUT))):
        rows = measure.megadocs(connection, world.study, weights).set_index("layout")
        assert rows["generations_missing"].to_dict() == {"real": 0, "stitched": missing}
        assert rows["documents_missing"].to_dict() == {"real": 0, "stitched": 0}
    assert len(TRAIN) == connection.execute("select count(*) from train").fetchall()[0][0]


AUC = {"measure": "auc", "before": 0.8, "real_mean": 0.5, "real_sd": 0.02}
MMD = {"measure": "mmd", "before": 0.4, "after": 0.2, "real_mean": 0.05, "real_sd": 0.01}


@pytest.mark.parametrize(("after", "outcome"), [(0.7, "passed"), (0.83, "passed"), (0.85, "warned")])
def test_a_choice_that_leads_away_from_real_text_warns(world, after, outcome):
    aligned(world)
    connection = measure.connect({"generations": world.publish()["generations"]})
    found = Found()
    judge_aligned(connection, world.study, publish_weights(world, [AUC | {"after": after}, MMD]), found)
    counted, moved = found.verdicts
    assert counted.outcome == "passed"
    assert counted.sentence == (
        "layout stitched keeps 16 of 18 generated texts, clipped at 2 times the mean; its weights tell as much as "
        "69% of them would (effective sample size 12); at least 10% is asked"
    )
    assert moved.outcome == outcome
    assert f"with an AUC of {after:.2f} (0.80 before)" in moved.sentence
    assert "they lie 4 times as far from it as its halves from each other (8 times before)" in moved.sentence
    figures = {row["metric"]: row for row in found.measures}
    assert figures["align_auc_after"]["value"] == after
    assert figures["align_auc_after"]["real_mean"] == 0.5
    assert {row["strategy"] for row in found.measures} == {"rephrase/stitched"}


def test_a_choice_that_cannot_be_compared_says_why(world):
    aligned(world)
    connection = measure.connect({"generations": world.publish()["generations"]})
    found = Found()
    judge_aligned(connection, world.study, publish_weights(world, why="16 texts are too few"), found)
    assert found.verdicts[1].outcome == "not_judged"
    assert found.verdicts[1].sentence.endswith("is not known: 16 texts are too few")
    judge_aligned(connection, world.study, None, found)
    assert len(found.verdicts) == 2
