from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.config import Study
from palimpsest.lake import Facts
from tests.training.conftest import make_study
from training.costs import generation_cost

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def study():
    found = make_study().model_dump(mode="json")
    found["strategies"]["aug"]["generations"] = 4
    found["strategies"]["other"] = found["strategies"]["aug"]
    found["layouts"] |= {
        "two": {"kind": "simple", "strategy": "aug", "generations": 2},
        "all": {"kind": "stitched", "strategy": "aug"},
        "others": {"kind": "simple", "strategy": "other", "generations": 1},
    }
    for layout in ("two", "all"):
        found["mixes"][layout] = {"layout": layout, "f": 0.5, "epochs": 1}
    found["mixes"]["both"] = {"layout": "two", "beside": {"all": 1, "others": 1}, "f": 0.5, "epochs": 1}
    return Study.model_validate(found)


def publish(lake, rows, drops=()):
    def write(directory):
        pq.write_table(pa.Table.from_pylist(rows), directory / "generations.parquet")
        schema = pa.schema([("strategy", pa.string()), ("g", pa.int32())])
        pq.write_table(pa.Table.from_pylist(list(drops), schema), directory / "generation_drops.parquet")
        return Facts()

    return lake.publish("studies/small/generations", write, config={"rows": rows})


def generated(g, strategy="aug", model="m", counted=True):
    return {
        "strategy": strategy, "g": g, "model": model, "tokens": 11,
        "input_tokens": 100 if counted else None, "output_tokens": 10 if counted else None,
    }  # fmt: skip


def use(shard, start, wall, paid, tokens, model="m"):
    catalog = Catalog.from_env()
    catalog.ready()
    seconds = {"wall": wall, "paid": paid, "useful": paid, "repaid": 0.0, "failed": 0.0, "idle": wall - paid}
    catalog.record_usage(
        f"{model}{shard}", study="elsewhere", shard=shard, engine="vllm", model=model, worker="w", state="done",
        started_at=BEGIN + dt.timedelta(seconds=start), requests=1, input_tokens=1, output_tokens=tokens,
        **{f"{name}_seconds": value for name, value in seconds.items()},
    )  # fmt: skip


def test_a_mix_costs_the_generations_it_uses_at_the_measured_speed(lake, study):
    publish(lake, [generated(g) for g in range(4) for _ in range(3)] + [generated(0, "other")])
    use(0, start=0, wall=10, paid=10, tokens=1_000)
    assert generation_cost(study, lake, ["two"]) == {
        "generations": 6, "dropped": 0, "input_tokens": 600, "output_tokens": 60,
        "engine_seconds": pytest.approx(0.6),
    }  # fmt: skip
    assert generation_cost(study, lake, ["all"])["generations"] == 12
    assert generation_cost(study, lake, ["all"])["engine_seconds"] == pytest.approx(1.2)
    assert generation_cost(study, lake, ["real"])["engine_seconds"] == 0


def test_what_two_streams_of_a_mix_hold_is_paid_once(lake, study):
    publish(lake, [generated(g) for g in range(4)] + [generated(g, "other") for g in range(2)])
    use(0, start=0, wall=10, paid=10, tokens=1_000)
    assert generation_cost(study, lake, ["two", "all", "others"])["generations"] == 5


def test_shards_side_by_side_share_the_engines_time_and_idle_time_is_not_paid(lake, study):
    publish(lake, [generated(0)])
    use(0, start=0, wall=10, paid=10, tokens=500)
    use(1, start=0, wall=10, paid=10, tokens=500)
    assert generation_cost(study, lake, ["two"])["engine_seconds"] == pytest.approx(10 * 10 / 1_000)
    use(2, start=100, wall=20, paid=0, tokens=1)
    assert generation_cost(study, lake, ["two"])["engine_seconds"] == pytest.approx(10 * (30 * 20 / 40) / 1_001)


def test_what_the_review_dropped_was_paid_too(lake, study):
    publish(
        lake, [generated(0), generated(1), generated(3)], [{"strategy": "aug", "g": 1}, {"strategy": "aug", "g": 2}]
    )
    use(0, start=0, wall=1, paid=1, tokens=10)
    found = generation_cost(study, lake, ["two"])
    assert (found["generations"], found["dropped"]) == (2, 1)
    assert found["engine_seconds"] == pytest.approx(0.1 * 10 * 3)


def test_tokens_are_the_texts_where_the_engine_does_not_count_and_unknown_speed_stays_unknown(lake, study):
    publish(lake, [generated(0), generated(1, model="recorded:x", counted=False)])
    use(0, start=0, wall=1, paid=1, tokens=10)
    found = generation_cost(study, lake, ["two"])
    assert (found["input_tokens"], found["output_tokens"], found["engine_seconds"]) == (100, 21, None)
