from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from palimpsest.catalog import Catalog
from palimpsest.config import load_study
from palimpsest.generate import leases, run, worker
from palimpsest.generate.engines import Augment
from palimpsest.generate.leases import LeaseLost, Leases
from palimpsest.generate.ledger import Ledger
from palimpsest.generate.plan import plan
from palimpsest.generate.publish import publish_generations
from palimpsest.lake import Lake
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


def work(study_file, root, plan_uri, shard, ttl, pause, folder):
    """What a worker's process does; ``folder`` gets its answer, or its error."""
    leases.TTL_S = ttl
    worker.WAIT_S = 0.2, 0.2
    generate = Augment.generate

    def slowly(self, requests):
        for number, outcome in enumerate(generate(self, requests)):
            if number == 5:
                (folder / "started").touch()
            time.sleep(pause)
            yield outcome

    Augment.generate = slowly
    try:
        study, lake = load_study(study_file), Lake(root)
        planned = lake.open(plan_uri)
        divided = lake.open(planned.manifest["parents"][0]["uri"])
        answer = run.generate_shard(study, lake, split=divided, plan=planned, shard=shard)
    except BaseException:
        (folder / "said").write_text(traceback.format_exc())
        raise
    (folder / "said").write_text(json.dumps(answer))


@dataclass(frozen=True)
class Worker:
    """A process of its own, forked: importing what it needs would take it longer than its work."""

    process: multiprocessing.Process
    folder: Path

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def until_started(self) -> None:
        deadline = time.monotonic() + 120
        while not (self.folder / "started").exists():
            assert self.process.is_alive(), (self.folder / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Exit status, and its answer as JSON or its error."""
        self.process.join(200)
        return self.process.exitcode, (self.folder / "said").read_text()


CONTROL = {"augment": {"kind": "augment", "generations": 4, "engine": {"kind": "augment"}}}
LAYOUTS = {"real": {"kind": "real"}}
MIXES = {"real": {"layout": "real", "epochs": 1}}


@pytest.fixture
def start(lake, tmp_path):
    """``start(study, plan, shard, ttl, pause)``: a `Worker` that pauses after each answer."""
    started: list[Worker] = []

    def begin(study, planned, shard, ttl=60.0, pause=0.0) -> Worker:
        folder = tmp_path / f"worker{len(started)}"
        folder.mkdir()
        what = (study.path, lake.base, planned.uri, shard, ttl, pause, folder)
        started.append(Worker(multiprocessing.get_context("fork").Process(target=work, args=what), folder))
        started[-1].process.start()
        return started[-1]

    yield begin
    for one in started:
        if one.process.is_alive():
            one.signal(signal.SIGCONT)
            one.process.kill()
        one.process.join()


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
        workers += [start(study, planned, shard, pause=0.02) for shard in range(count)]
    ends = [one.end() for one in workers]
    assert [status for status, _ in ends] == [0] * len(workers), ends
    asked = sum(json.loads(said)["asked"] for _, said in ends)
    assert asked == 80
    assert sorted(stored(lake).values()) == [1] * 80
    for study, parts, planned in plans:
        assert publish_generations(study, lake, split=parts, plan=planned).manifest["rows"]["kept"] == 80


def test_of_two_workers_on_one_shard_the_one_that_was_stopped_too_long_cannot_write(lake, make_study, documents, start):
    study = make_study(shards=1, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    parts = split(study, lake, documents=[documents])
    planned = plan(study, lake, split=parts)
    first = start(study, planned, 0, ttl=1.5, pause=0.1)
    first.until_started()
    first.signal(signal.SIGSTOP)
    status, answer = start(study, planned, 0, ttl=1.5).end()
    assert status == 0, answer
    first.signal(signal.SIGCONT)
    status, error = first.end()
    assert status == 1
    assert "LeaseLost: " in error and "taken over by another worker" in error
    assert sorted(stored(lake).values()) == [1] * 80
    assert 0 < json.loads(answer)["asked"] <= 80
    catalog = Catalog.from_env()
    assert {row["state"] for row in catalog.usage(study.name)} == {"failed", "done"}


def test_a_worker_that_was_stopped_while_nobody_came_goes_on(lake, make_study, documents, start):
    study = make_study(shards=1, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    planned = plan(study, lake, split=split(study, lake, documents=[documents]))
    first = start(study, planned, 0, ttl=0.5, pause=0.05)
    first.until_started()
    first.signal(signal.SIGSTOP)
    time.sleep(1.5)
    first.signal(signal.SIGCONT)
    status, said = first.end()
    assert status == 0, said
    assert sorted(stored(lake).values()) == [1] * 80


def test_after_a_killed_worker_nobody_waits_and_its_seconds_are_to_be_repaid(lake, make_study, documents, start):
    study = make_study(shards=1, strategies=CONTROL, layouts=LAYOUTS, mixes=MIXES)
    planned = plan(study, lake, split=split(study, lake, documents=[documents]))
    first = start(study, planned, 0, ttl=600, pause=0.5)
    first.until_started()
    first.process.kill()
    first.process.join()
    began = time.monotonic()
    status, said = start(study, planned, 0, ttl=600).end()
    assert status == 0, said
    assert time.monotonic() - began < 100
    assert len(Ledger(lake).done(stored(lake))) == 80
    rows = Catalog.from_env().usage(study.name)
    assert sorted(row["state"] for row in rows) == ["dead", "done"]
    for row in rows:
        assert row["wall_seconds"] == pytest.approx(row["paid_seconds"] + row["idle_seconds"], rel=0.01, abs=0.01)
