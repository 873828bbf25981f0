"""Several workers at a time: the order of what comes of their work, their bounds, and their end."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from palimpsest.config import ConfigError
from palimpsest.ingest.worker import Poisoned
from palimpsest.ingest.workers import AHEAD, Workers, processes


def act(what: str, number: int) -> tuple[int, int]:
    if what == "spin":
        while True:
            pass
    if what == "sleep":
        time.sleep(60)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "refuse":
        raise Poisoned("too_deep", "nested 9 deep")
    time.sleep(0.3 if what == "slow" else 0)
    return os.getpid(), number


def outcomes(count: int, whats: list[str | None]) -> list[object]:
    asked = (((number, what), (what, number) if what else None) for number, what in enumerate(whats))
    with Workers(count, act, timeout_s=1, memory_mb=256) as workers:
        found = list(workers.each(asked))
    assert [item for item, _ in found] == list(enumerate(whats))
    return [outcome for _, outcome in found]


@pytest.mark.parametrize("count", [1, 3])
def test_the_order_is_that_of_the_pages_whatever_becomes_of_them(count):
    whats = ["slow", "fast", "die", None, "fast", "spin", "fast", "refuse", "sleep", *["fast"] * 20, None, "slow"]
    causes = {"die": "crashed", "spin": "timeout", "refuse": "too_deep", "sleep": "timeout"}
    for number, (what, outcome) in enumerate(zip(whats, outcomes(count, whats), strict=True)):
        if what is None:
            assert outcome is None
        elif what in causes:
            assert outcome.cause == causes[what]
        else:
            assert outcome[1] == number


def test_all_workers_work_at_the_same_time():
    assert len({pid for pid, _ in outcomes(3, ["slow"] * 9)}) == 3


def test_pages_are_read_ahead_of_one_that_takes_long_but_not_without_bound():
    read = []

    def asked():
        for number in range(100):
            read.append(number)
            yield number, ("slow" if number == 0 else "fast", number)

    with Workers(2, act, timeout_s=5, memory_mb=256) as workers:
        assert next(workers.each(asked()))[0] == 0
        assert AHEAD < len(read) <= 2 * AHEAD + 1


def test_an_error_of_the_reading_ends_the_workers_and_is_told():
    def asked():
        yield 1, ("fast", 1)
        raise OSError("cut off")

    before = set(psutil.Process().children())
    with pytest.raises(OSError, match="cut off"), Workers(2, act, timeout_s=5, memory_mb=256) as workers:
        list(workers.each(asked()))
    assert set(psutil.Process().children()) <= before


def test_the_workers_of_a_process_that_is_killed_end_too():
    """Also those whose pipe others were forked with."""
    theirs, ours = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            with Workers(3, act, timeout_s=5, memory_mb=256) as workers:
                asked = [(n, ("die" if n == 4 else "slow", n)) for n in range(12)]
                pids = {outcome[0] for _, outcome in workers.each(asked) if not isinstance(outcome, Poisoned)}
                os.write(ours, " ".join(map(str, pids)).encode())
                time.sleep(60)
        finally:
            os._exit(0)
    pids = [int(pid) for pid in os.read(theirs, 1_000).split()]
    assert len(pids) >= 3
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    children = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_how_many_there_are_is_a_setting(monkeypatch):
    monkeypatch.delenv("PALIMPSEST_EXTRACTION_PROCESSES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)))
    assert processes() == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(99)))
    assert processes() == 16
    monkeypatch.setenv("PALIMPSEST_EXTRACTION_PROCESSES", "20")
    assert processes() == 20
    for wrong in ("0", "many", "-1", "1.5"):
        monkeypatch.setenv("PALIMPSEST_EXTRACTION_PROCESSES", wrong)
        with pytest.raises(ConfigError, match=f"PALIMPSEST_EXTRACTION_PROCESSES: '{wrong}' is no number of processes"):
            processes()
