"""Bounds of the process that examines pages: processor time, memory, sleep, death; never the clock."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from palimpsest.ingest.worker import Poisoned, Worker


def act(what: str, *rest: object) -> object:
    if what == "spin":
        while True:
            pass
    if what == "sleep":
        time.sleep(60)
    if what == "exhaust":
        return len(b"x" * (1 << 30))
    if what == "refuse":
        raise Poisoned("too_deep", "nested 9 deep")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid() if what == "pid" else what


@pytest.mark.parametrize(
    ("what", "cause", "said"),
    [
        ("spin", "timeout", "processor time (limits.page_timeout_s)"),
        ("sleep", "timeout", "asleep for 1 s"),
        ("exhaust", "memory", "more than 256 MB (limits.page_memory_mb)"),
        ("die", "crashed", "code -9"),
    ],
)
def test_a_bound_costs_one_page_and_a_new_child_goes_on(what, cause, said):
    with Worker(act, timeout_s=1, memory_mb=256) as worker:
        before = worker("pid")
        with pytest.raises(Poisoned) as poisoned:
            worker(what)
        assert poisoned.value.cause == cause
        assert said in str(poisoned.value)
        assert worker("pid") != before
        assert worker("after") == "after"


def test_what_the_function_has_against_a_page_is_said_as_it_says_it_and_the_child_goes_on():
    with Worker(act, timeout_s=1, memory_mb=256) as worker:
        before = worker("pid")
        with pytest.raises(Poisoned, match="^nested 9 deep$") as poisoned:
            worker("refuse")
        assert poisoned.value.cause == "too_deep"
        assert worker("pid") == before


def test_a_page_is_kept_however_long_the_machine_stands_still():
    with Worker(act, timeout_s=0.4, memory_mb=256) as worker:
        child = worker("pid")
        threading.Timer(1.5, os.kill, (child, signal.SIGCONT)).start()
        began = time.monotonic()
        assert worker("stop") == "stop"
        assert time.monotonic() - began > 1
        assert worker("pid") == child


def test_the_bound_is_of_each_page_not_of_all_together():
    with Worker(lambda n: (sum(range(n)), time.process_time())[1], timeout_s=1, memory_mb=256) as worker:
        spent = [worker(20_000_000) for _ in range(9)]
    assert spent == sorted(spent)  # one child examined them all
    assert spent[-1] > 2
