from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.generate.leases import LeaseLost, Leases
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.lake import REPOSITORY, Lake
from palimpsest.split import split

ELSEWHERE = "another-host~boot~1~1~1/worker"
"""A holder whose process nobody here can look at."""


@pytest.fixture
def catalog(state):
    catalog = Catalog.from_env()
    catalog.ready()
    yield catalog
    catalog.close()


def test_what_one_holds_another_does_not_get(catalog, lake):
    with Leases(catalog, lake) as mine, Leases(catalog, lake) as yours:
        assert mine.take([1, 2, "compact"]) == {1, 2, "compact"}
        assert yours.take([2, 3]) == {3}
        mine.release([2])
        assert yours.take([2, 3]) == {2, 3}
        mine.renew()
        assert (mine.held, yours.held) == ({1, "compact"}, {2, 3})
    with Leases(catalog, lake) as third:
        assert third.take([1, 2, 3, "compact"]) == {1, 2, 3, "compact"}


def test_lanes_of_different_lakes_are_different_lanes(catalog, lake, tmp_path):
    with Leases(catalog, lake) as mine, Leases(catalog, Lake(tmp_path / "other")) as yours:
        assert mine.take([1]) == yours.take([1]) == {1}


def test_the_heartbeat_keeps_a_lease_beyond_its_time(catalog, lake):
    with Leases(catalog, lake, ttl_s=0.6) as mine, Leases(catalog, lake, ELSEWHERE) as yours:
        mine.take([1])
        time.sleep(1.5)
        assert yours.take([1]) == set()


def test_who_lost_a_lease_learns_it_before_writing_and_keeps_the_others(catalog, lake):
    with Leases(catalog, lake) as mine:
        mine.take([1, 2])
        catalog.release_leases([mine._name(1)], mine.holder)
        assert catalog.take_leases([mine._name(1)], ELSEWHERE, 60)
        with pytest.raises(LeaseLost, match="1 leases were taken over") as lost, mine.keep([1, 2]):
            pytest.fail("nothing may be written now")
        assert lost.value.lanes == {1}
        assert isinstance(lost.value, ConnectionError)
        with mine.keep([2]):
            pass
        with pytest.raises(LeaseLost):
            mine.check()


def test_the_heartbeat_notices_a_loss_and_survives_a_catalog_that_is_away(catalog, lake, monkeypatch):
    with Leases(catalog, lake, ttl_s=0.4) as mine:
        mine.take([1])
        keep, failures = Catalog.keep_leases, []

        def away(self, *arguments):
            failures.append(1)
            raise ConnectionError("the catalog is away")

        monkeypatch.setattr(Catalog, "keep_leases", away)
        deadline = time.monotonic() + 20
        while len(failures) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        monkeypatch.setattr(Catalog, "keep_leases", keep)
        mine.renew()
        mine.check()
        catalog.release_leases([mine._name(1)], mine.holder)
        deadline = time.monotonic() + 20
        while not mine._lost and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(LeaseLost):
            mine.check()


# ---- real workers

WORKER = """
import json, sys, time
from pathlib import Path
from palimpsest.config import load_study
from palimpsest.generate import leases, run, worker
from palimpsest.generate.engines import Augment
from palimpsest.lake import Lake

study_file, root, plan_uri, shard, ttl, pause, started = sys.argv[1:]
leases.TTL_S = float(ttl)
worker.WAIT_S = 0.2, 0.2
study, lake = load_study(study_file), Lake(root)
generate = Augment.generate

def slowly(self, requests):
    for number, outcome in enumerate(generate(self, requests)):
        if number == 5:
            Path(started).touch()
        time.sleep(float(pause))
        yield outcome

Augment.generate = slowly
planned = lake.open(plan_uri)
divided = lake.open(planned.manifest["parents"][0]["uri"])
print(json.dumps(run.generate_shard(study, lake, split=divided, plan=planned, shard=int(shard))))
"""
CONTROL = {"augment": {"kind": "augment", "generations": 4, "engine": {"kind": "augment"}}}
LAYOUTS = {"real": {"kind": "real"}}
MIXES = {"real": {"layout": "real", "epochs": 1}}


@pytest.fixture
def start(lake, tmp_path):
    """``start(study, plan, shard, ttl, pause)``: a worker process that pauses after each answer, and its first sign."""
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    started: list[subprocess.Popen] = []

    def begin(study, planned, shard, ttl=60.0, pause=0.0) -> tuple[subprocess.Popen, Path]:
        sign = tmp_path / f"started{len(started)}"
        command = [sys.executable, program, study.path, lake.base, planned.uri, shard, ttl, pause, sign]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}
        process = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, sign

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def wait_for(sign: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not sign.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stored(lake: Lake) -> Counter:
    found = Counter()
    for segment in Path(lake.base, "ledger", "segments").glob("*.parquet"):
        found.update(pq.read_table(segment)["key"].to_pylist())
    return found


@pytest.mark.parametrize("shards", [(1, 1), (1, 3)])
def test_the_same_requests_planned_by_two_studies_at_once_are_generated_once(
    lake, make_study, documents, start, shards
):
    workers, plans = [], []
    for number, count in enumerate(shards):
        study = make_study(name=f"study{number}", shards=count, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
        parts = split(study, lake, documents=[documents])
        planned = plan(study, lake, split=parts)
        plans.append((study, parts, planned))
        workers += [start(study, planned, shard, pause=0.02)[0] for shard in range(count)]
    ends = [worker.communicate(timeout=200) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), ends
    asked = sum(json.loads(out)["asked"] for out, _ in ends)
    assert asked == 80
    assert sorted(stored(lake).values()) == [1] * 80
    for study, parts, planned in plans:
        assert publish_generations(study, lake, split=parts, plan=planned).manifest["rows"]["kept"] == 80


def test_of_two_workers_on_one_shard_the_one_that_was_stopped_too_long_cannot_write(lake, make_study, documents, start):
    study = make_study(shards=1, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    first, sign = start(study, planned, 0, ttl=1.5, pause=0.1)
    wait_for(sign, first)
    first.send_signal(signal.SIGSTOP)
    second, _ = start(study, planned, 0, ttl=1.5)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 1
    assert "LeaseLost: " in err and "taken over by another worker" in err
    assert sorted(stored(lake).values()) == [1] * 80
    assert 0 < json.loads(out)["asked"] <= 80
    catalog = Catalog.from_env()
    assert {row["state"] for row in catalog.usage(study.name)} == {"failed", "done"}


def test_a_worker_that_was_stopped_while_nobody_came_goes_on(lake, make_study, documents, start):
    study = make_study(shards=1, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    planned = plan(study, lake, split=split(study, lake, documents=[documents]))
    first, sign = start(study, planned, 0, ttl=0.5, pause=0.05)
    wait_for(sign, first)
    first.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert sorted(stored(lake).values()) == [1] * 80


def test_after_a_killed_worker_nobody_waits_and_its_seconds_are_to_be_repaid(lake, make_study, documents, start):
    study = make_study(shards=1, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    planned = plan(study, lake, split=split(study, lake, documents=[documents]))
    first, sign = start(study, planned, 0, ttl=600, pause=0.5)
    wait_for(sign, first)
    first.kill()
    first.wait()
    began = time.monotonic()
    second, _ = start(study, planned, 0, ttl=600)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert time.monotonic() - began < 100
    assert len(Ledger(lake).done(stored(lake))) == 80
    rows = Catalog.from_env().usage(study.name)
    assert sorted(row["state"] for row in rows) == ["dead", "done"]
    for row in rows:
        assert row["wall_seconds"] == pytest.approx(row["paid_seconds"] + row["idle_seconds"], rel=0.01, abs=0.01)
