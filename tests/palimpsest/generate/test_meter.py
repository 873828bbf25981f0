from __future__ import annotations

import logging
import threading

import pytest

from palimpsest.config import Engine
from palimpsest.generate.engines import Augment, EngineStats, Recorded
from palimpsest.generate.meter import Meter
from palimpsest.generate.progress import Progress, Reporter, duration
from palimpsest.generate.requests import Request


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def meter(clock):
    return Meter(clock)


def adds_up(usage):
    assert usage.wall == pytest.approx(usage.paid + usage.idle)
    assert usage.paid == pytest.approx(usage.useful + usage.repaid + usage.failed + usage.pending)


def test_busy_time_is_split_over_what_is_in_flight_and_the_rest_is_idle(meter, clock):
    meter.begin()
    clock.now += 2  # idle
    meter.started("a", ["1", "2", "3"])
    clock.now += 3  # 1 s each
    meter.started("b", ["4"])
    clock.now += 4  # 1 s each
    adds_up(meter.snapshot())
    assert meter.snapshot().pending == pytest.approx(7)
    assert meter.ended("a", "useful") == pytest.approx(2)
    clock.now += 5
    assert meter.ended("b", "failed") == pytest.approx(6)
    clock.now += 1
    usage = meter.snapshot()
    adds_up(usage)
    assert (usage.wall, usage.useful, usage.failed, usage.idle, usage.pending) == pytest.approx((15, 6, 6, 3, 0))


def test_samples_of_one_request_may_end_differently(meter, clock):
    meter.started("a", ["1", "2", "3"])
    clock.now += 3
    assert meter.ended("a", "useful", ["1", "3"]) == pytest.approx(1)
    clock.now += 2
    assert meter.ended("a", "repaid", ["2"]) == pytest.approx(3)
    usage = meter.snapshot()
    adds_up(usage)
    assert (usage.useful, usage.repaid, usage.pending) == pytest.approx((2, 3, 0))


def test_what_is_dropped_was_for_nothing(meter, clock):
    meter.started("a", ["1", "2"])
    clock.now += 4
    meter.drop("a")
    meter.drop("a")
    assert meter.snapshot().repaid == pytest.approx(4)


def test_nothing_ends_that_was_not_in_flight(meter):
    meter.started("a", ["1"])
    with pytest.raises(ValueError, match="'a' is in flight already"):
        meter.started("a", ["2"])
    with pytest.raises(ValueError, match="not in flight under 'a'"):
        meter.ended("a", "useful", ["2"])


def test_it_adds_up_while_threads_come_and_go():
    meter = Meter()

    def work(name):
        for number in range(300):
            meter.started((name, number), [f"{name}{number}"])
            adds_up(meter.snapshot())
            meter.ended((name, number), "useful")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    usage = meter.snapshot()
    adds_up(usage)
    assert usage.pending == pytest.approx(0, abs=1e-9) and usage.useful > 0


def test_engines_without_a_server_meter_their_seconds_too(tmp_path):
    file = tmp_path / "recorded.jsonl"
    file.write_text('{"url": "u", "strategy": "rephrase", "g": 0, "text": "told"}\n')
    requests = [Request(f"k{g}", "u", "rephrase", g, "One. Two. Three.", g) for g in range(3)]
    for engine, useful in ((Recorded(Engine(kind="recorded", file=str(file))), 1), (Augment(), 3)):
        outcomes = list(engine.generate(requests))
        usage = engine.meter.snapshot()
        adds_up(usage)
        assert usage.pending == 0
        texts = [o.engine_seconds for o in outcomes if o.text is not None]
        assert len(texts) == useful and usage.useful == pytest.approx(sum(texts))
        assert usage.failed == pytest.approx(sum(o.engine_seconds for o in outcomes if o.text is None))


def test_a_line_says_how_far_it_is_how_fast_and_how_long_it_takes():
    progress = Progress(1204, 20_000, failed=1, tokens_per_s=3911.4, in_flight=512, retries=3, seconds_left=760)
    assert progress.line() == (
        "1,204/20,000 requests (6.0%), 3,911 tokens/s, 512 in flight, 3 retries, 1 failed, 12m 40s left"
    )
    assert Progress(0, 5).line().endswith("time left unknown")
    assert [duration(s) for s in (0.4, 59, 61, 3600, 200_000)] == ["0s", "59s", "1m 1s", "1h 0m", "2d 7h"]


def test_reports_come_every_few_seconds_with_the_rate_of_the_last_minute(clock):
    reports = []
    reporter = Reporter(1000, reports.append, clock=clock)
    for second in range(1, 201):
        clock.now += 1
        tokens = 100 * min(second, 100) + 10 * max(0, second - 100)  # slower from second 100 on
        reporter.update(2 if second <= 100 else 1, second == 7, EngineStats(4, 8, 1, tokens))
    assert len(reports) == 40
    assert (reports[0].done, reports[0].tokens_per_s, reports[0].seconds_left) == pytest.approx((10, 100, 495))
    assert (reports[-1].done, reports[-1].tokens_per_s, reports[-1].seconds_left) == pytest.approx((300, 10, 700))
    assert (reports[-1].failed, reports[-1].in_flight, reports[-1].retries) == (1, 4, 1)


def test_reports_go_to_the_log_by_themselves(clock, caplog):
    with caplog.at_level(logging.INFO):
        reporter = Reporter(10, clock=clock)
        clock.now += 6
        reporter.update(5, 0, EngineStats())
    assert "5/10 requests (50.0%)" in caplog.text
