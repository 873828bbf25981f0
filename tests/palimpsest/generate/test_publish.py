from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.generate import fates
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import GENERATIONS, MISSING, publish_generations
from palimpsest.generate.requests import Outcome
from palimpsest.generate.review.drops import DROPS
from palimpsest.generate.run import generate_shard
from palimpsest.lake import Lake, LakeError
from palimpsest.split import split
from tests.benchmarks import ledger as ledger_benchmark
from tests.palimpsest.generate.conftest import PAGES, REFUSAL, retold
from tests.palimpsest.generate.test_plan import publish_split


def outcomes_of(planned, text=lambda row: retold("harbour", row["seed"]), **changes) -> list[Outcome]:
    rows = pq.read_table(planned.file("requests.parquet")).to_pylist()
    return [
        Outcome(
            key=row["key"],
            text=text(row),
            cause=None if text(row) else "timeout",
            detail=None if text(row) else "no answer",
            engine=row["engine"],
            model=row["model"],
            seed=row["seed"],
            finish_reason="stop",
            input_tokens=50,
            output_tokens=60,
            **changes,
        )
        for row in rows
    ]


def same(published) -> list[tuple[str, str]]:
    return [(file["name"], file["sha256"]) for file in published.manifest["files"]]


def test_what_is_published_does_not_depend_on_the_ledgers_segments(written, tmp_path):
    world = written()
    outcomes = outcomes_of(world.plan)
    found = []
    for number, size in enumerate((100, 1, 7)):
        lake = Lake(tmp_path / f"lake{number}")
        publish_split(lake, PAGES)
        planned = plan(world.study, lake, split=lake.latest("studies/small/split"))
        ledger = Ledger(lake)
        order = outcomes if number else outcomes[::-1]
        for start in range(0, len(order), size):
            ledger.append(order[start : start + size])
        if number == 2:
            ledger.compact()
        parts = lake.latest("studies/small/split")
        found.append(publish_generations(world.study, lake, split=parts, plan=planned))
    assert found[0].manifest["rows"]["kept"] == 18
    assert [same(published) for published in found[1:]] == [same(found[0])] * 2
    assert len({published.uri for published in found}) == 1


def test_rows_come_in_the_plans_order_with_all_that_is_known_of_them(written):
    world = written()
    Ledger(world.lake).append(outcomes_of(world.plan, engine_seconds=0.5))
    table = pq.read_table(world.publish().file("generations.parquet"))
    planned = pq.read_table(world.plan.file("requests.parquet")).to_pylist()
    assert table.schema == GENERATIONS
    rows = table.to_pylist()
    assert [row["generation_id"] for row in rows] == [row["key"] for row in planned]
    names = ("document_id", "strategy", "kind", "g", "model", "seed", "prompt", "prompt_sha256", "input_truncated")
    for row, asked in zip(rows, planned, strict=True):
        assert {name: row[name] for name in names} == {name: asked[name] for name in names}
        assert (row["engine"], row["attempt"], row["parts"], row["defects"]) == ("vllm", 0, 1, [])
        assert (row["input_tokens"], row["output_tokens"], row["truncated"]) == (50, 60, False)
        assert 0 <= row["faithfulness"] <= 1 and row["tokens"] > 0


def test_every_planned_sample_is_kept_dropped_or_missing(written):
    def text(row):
        number = row["key"][0]
        return None if number in "01234" else REFUSAL if number in "56789" else retold("harbour", row["seed"])

    world = written(review={"refusal": "drop"}, generations=8)
    Ledger(world.lake).append(outcomes_of(world.plan, text))
    published = world.publish()
    rows = published.manifest["rows"]
    names = ("generations", "generation_drops", "missing")
    tables = {name: pq.read_table(published.file(f"{name}.parquet")) for name in names}
    assert tables["generation_drops"].schema == DROPS and tables["missing"].schema == MISSING
    assert rows["input"] == 48
    assert rows["kept"] == tables["generations"].num_rows
    assert rows["dropped"] == {"refusal": tables["generation_drops"].num_rows}
    assert rows["quarantined"] == {"timeout": tables["missing"].num_rows}
    assert set(tables["missing"]["detail"].to_pylist()) == {"no answer"}
    facts = published.extra["by_strategy"]["told"]
    assert (facts["planned"], facts["made"]) == (48, rows["kept"])
    assert facts["documents"] == 6


def test_a_part_that_failed_takes_its_generation_with_it_and_no_other(written):
    long = "\n\n".join(PAGES[n % 6].replace("old", f"old number {n}") for n in range(24))
    world = written(pages=[long], context=1024, generations=2)
    planned = pq.read_table(world.plan.file("requests.parquet")).to_pylist()
    lost = next(row["key"] for row in planned if row["part"] == 2 and row["g"] == 1)
    Ledger(world.lake).append(outcomes_of(world.plan, lambda r: None if r["key"] == lost else retold("x", r["seed"])))
    published = world.publish()
    assert published.manifest["rows"] == {"input": 2, "kept": 1, "dropped": {}, "quarantined": {"timeout": 1}}
    (row,) = pq.read_table(published.file("missing.parquet")).to_pylist()
    assert (row["key"], row["g"], row["part"]) == (lost, 1, 2)


def test_a_cut_off_part_marks_the_generation(written):
    long = "\n\n".join(PAGES[n % 6].replace("old", f"old number {n}") for n in range(24))
    world = written(pages=[long], context=1024, generations=1)
    outcomes = outcomes_of(world.plan)
    assert len(outcomes) > 2
    cut = [*outcomes[:1], Outcome(**{**vars(outcomes[1]), "finish_reason": "length"}), *outcomes[2:]]
    Ledger(world.lake).append(cut)
    (row,) = world.rows()
    assert (row["finish_reason"], row["truncated"], row["defects"]) == ("length", True, ["truncated"])
    assert (row["input_tokens"], row["parts"]) == (50 * len(outcomes), len(outcomes))


def test_another_text_or_another_review_is_another_version_and_the_same_is_none(written):
    world = written()
    Ledger(world.lake).append(outcomes_of(world.plan, lambda row: retold("harbour", row["seed"]) if row["g"] else None))
    first = world.publish()
    assert world.publish().uri == first.uri
    Ledger(world.lake).append(outcomes_of(world.plan))
    second = world.publish()
    assert second.uri != first.uri and second.manifest["rows"]["kept"] == 18
    strict = written(review={"truncated": "drop"})
    assert strict.plan.uri == world.plan.uri
    assert strict.publish().uri != second.uri


def test_the_review_is_shared_among_processes_where_it_pays_and_says_the_same(written, monkeypatch):
    world = written(generations=20, review={"refusal": "drop"})
    Ledger(world.lake).append(
        outcomes_of(world.plan, lambda row: REFUSAL if row["g"] == 3 else retold("harbour", row["seed"]))
    )
    monkeypatch.setattr(fates, "CHUNK", 7)
    alone = world.publish()
    assert alone.manifest["rows"] == {"input": 120, "kept": 114, "dropped": {"refusal": 6}, "quarantined": {}}
    shutil.rmtree(alone.path)
    monkeypatch.setattr(fates, "POOL_FROM", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    assert same(world.publish()) == same(alone)


def test_a_request_that_two_strategies_plan_is_generated_once_and_published_twice(lake, make_study, documents):
    control = {"kind": "augment", "generations": 2, "engine": {"kind": "augment"}}
    study = make_study(
        strategies={"one": control, "two": control | {"generations": 3}},
        layouts={"real": {"kind": "real"}},
        mixes={"real": {"layout": "real", "epochs": 1}},
    )
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    made = sum(generate_shard(study, lake, split=parts, plan=planned, shard=n)["made"] for n in range(study.shards))
    published = publish_generations(study, lake, split=parts, plan=planned)
    assert made == 60
    assert {n: f["made"] for n, f in published.extra["by_strategy"].items()} == {"one": 40, "two": 60}


def test_what_was_never_tried_is_named_by_shard(written):
    world = written(shards=3)
    outcomes = outcomes_of(world.plan)
    planned = pq.read_table(world.plan.file("requests.parquet")).to_pylist()
    kept = [o for o, row in zip(outcomes, planned, strict=True) if row["shard"] != planned[0]["shard"]]
    Ledger(world.lake).append(kept)
    with pytest.raises(LakeError, match=rf"{18 - len(kept)} of 18 planned.*\(shards \[{planned[0]['shard']}\]\); run"):
        world.publish()
    assert not Path(world.lake.base, "studies/small/generations").exists()


@pytest.mark.timeout(600)
def test_fifty_thousand_requests_are_compared_merged_and_published_in_bounded_memory(tmp_path):
    """A million are in the benchmark 'ledger'. Their texts alone, as Python's strings, would be 110 MB here."""
    measured = {step: ledger_benchmark.measure(tmp_path, 50_000, "augment", step) for step in ledger_benchmark.STEPS}
    assert measured["diff"]["memory"] < 400
    assert measured["compact"]["memory"] < 500
    assert measured["publish"]["memory"] < 900
