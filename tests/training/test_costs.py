from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.config import Study
from palimpsest.lake import Facts
from tests.training.conftest import make_study
from training.costs import device_hours, generation_cost, run_cost

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
        "engine_seconds": pytest.approx(0.6), "gpu_seconds": 0,
    }  # fmt: skip
    assert generation_cost(study, lake, ["all"])["generations"] == 12
    assert generation_cost(study, lake, ["all"])["engine_seconds"] == pytest.approx(1.2)
    assert generation_cost(study, lake, ["real"])["engine_seconds"] == 0


def served(study, **server):
    """The study with its text written by a server."""
    found = study.model_dump(mode="json")
    found["servers"] = {"writer": {"model": "/models/writer", "tokens_per_second": 100.0, **server}}
    found["strategies"]["aug"] |= {"kind": "rephrase", "engine": {"kind": "vllm", "server": "writer"}}
    return Study.model_validate(found)


@pytest.mark.parametrize(
    ("server", "gpus"),
    [({"gpus": 2}, 2), ({"gpus": 0}, 0), ({"endpoints": ["http://a:1", "http://b:1", "http://c:1"]}, 3)],
    ids=["two GPUs", "a CPU", "three endpoints"],
)
def test_gpu_seconds_are_those_of_all_gpus_that_are_busy_side_by_side(lake, study, server, gpus):
    publish(lake, [generated(g) for g in range(2)] + [generated(0, "other", "copier")], [{"strategy": "aug", "g": 0}])
    use(0, start=0, wall=10, paid=10, tokens=1_000)
    found = generation_cost(served(study, **server), lake, ["two"])
    assert found["engine_seconds"] == pytest.approx(0.01 * 10 * 3)
    assert found["gpu_seconds"] == pytest.approx(gpus * 0.01 * 10 * 3)
    augmented = generation_cost(served(study, **server), lake, ["others"])
    assert (augmented["engine_seconds"], augmented["gpu_seconds"]) == (None, 0)


def test_gpu_seconds_of_a_model_that_was_never_timed_are_not_known(lake, study):
    publish(lake, [generated(0)])
    assert generation_cost(served(study), lake, ["two"])["gpu_seconds"] is None


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


def test_hours_count_every_gpu_of_a_run_and_a_cpu_once():
    runs = [{"seconds": 1800.0, "processes": 8, "device": "NVIDIA H100"}, {"seconds": 3600.0, "device": "NVIDIA H100"}]
    runs += [{"seconds": 7200.0, "processes": 2, "device": "cpu"}]
    assert device_hours(runs) == {"training_gpu_hours": 5.0, "training_cpu_hours": 2.0}
    assert device_hours(runs[:2], 2) == {"training_gpu_hours": 2.5, "training_cpu_hours": 0.0}


def test_a_run_says_what_it_cost(lake):
    told = {"tokens": {"total": 640}, "flops": 6.4e6, "seconds": 900.0, "device": "NVIDIA H200", "processes": 4}
    trained = lake.publish("runs/one", lambda d: (d / "evaluation.json").write_text(json.dumps(told)) and Facts())
    assert run_cost(trained) == {
        "trained_tokens": 640, "flops": 6.4e6, "train_seconds": 900, "training_gpu_hours": 1, "training_cpu_hours": 0
    }  # fmt: skip
