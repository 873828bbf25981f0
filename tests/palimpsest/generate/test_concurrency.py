from __future__ import annotations

import statistics

import pytest

from palimpsest.generate.concurrency import BACKOFF_MOST_S, BLIND, FIRST, Window, backoff


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Queue:
    """A server that generates ``slots`` samples at once and keeps the others waiting, as its metrics would say."""

    def __init__(self, window: Window, slots: int, samples: int = 4) -> None:
        self.window, self.slots, self.samples = window, slots, samples

    def look(self) -> tuple[int, int]:
        while self.window.room(self.samples):
            self.window.take(self.samples)
        flying = self.window.in_flight
        self.window.observe(min(flying, self.slots), max(0, flying - self.slots))
        return min(flying, self.slots), max(0, flying - self.slots)


def test_it_opens_in_a_few_looks_until_a_queue_is_waiting():
    window = Window()
    server = Queue(window, slots=1024)
    seen = [server.look() for _ in range(8)]
    assert seen[5][0] == 1024 and seen[-1][1] >= 512
    assert window.size < 3 * 1024
    settled = window.size
    for _ in range(20):
        server.look()
    assert window.size == pytest.approx(settled)


def test_it_gives_way_when_the_queue_is_long_and_two_clients_meet():
    """The second client comes to a server that the first has filled; after a while neither has all of it."""
    one, two = Window(), Window()
    slots = 200
    for round in range(400):
        for window in (one, two) if round > 50 else (one,):
            while window.room(1):
                window.take(1)
            window.give(max(0, int(window.in_flight - window.size)))  # what came back is not replaced
            flying = one.in_flight + two.in_flight
            window.observe(min(flying, slots), max(0, flying - slots))
    assert one.size + two.size >= slots
    assert min(one.size, two.size) > 32


def test_what_is_not_full_does_not_grow():
    window = Window()
    window.take(3)
    assert window.room(3)
    window.observe(3, 0)
    assert window.size == FIRST


def test_it_is_looked_after_often_while_it_grows():
    clock = Clock()
    window = Window(clock=clock)
    assert window.ramping
    clock.now += 60
    assert not window.ramping
    window.take(int(window.size))
    assert not window.room(1)
    window.observe(128, 0)
    assert window.ramping
    window.observe(128, 100)
    assert not window.ramping


def test_refusals_halve_it_once_per_round_trip():
    clock = Clock()
    window = Window(size=64, clock=clock)
    window.take(64)
    for _ in range(10):
        window.refused(sent_at=99.0)
    assert window.size == 32
    clock.now = 101.0
    window.refused(sent_at=99.5)  # sent before the last cut
    assert window.size == 32
    window.refused(sent_at=100.5)
    assert window.size == 16
    for _ in range(10):
        clock.now += 1
        window.refused(sent_at=clock.now - 0.5)
    assert window.size == 1 and not window.room(1)
    window.give(64)
    assert window.room(32)  # one request may always be in flight, whatever its samples


def test_after_a_refusal_it_grows_by_steps():
    clock = Clock()
    window = Window(size=256, clock=clock)
    window.take(256)
    window.refused(sent_at=99.0)
    assert not window.room(1)
    window.observe(128, 0)
    assert 128 < window.size < 256


def test_a_server_that_says_when_is_left_alone_until_then():
    clock = Clock()
    window = Window(clock=clock)
    window.refused(sent_at=99.0, wait_s=5)
    assert not window.room(1)
    clock.now += 5.1
    assert window.room(1)


def test_where_the_queue_cannot_be_seen_answers_open_it_up_to_a_limit():
    window = Window()
    for _ in range(3000):
        while window.room(4):
            window.take(4)
        window.give(4)
        window.answered(4)
    assert FIRST + 100 < window.size <= BLIND


def test_a_server_that_was_away_starts_from_what_it_could_do():
    window = Window(size=1000)
    window.refused(sent_at=1e12, wait_s=1000)
    window.size = 1000
    window.restart()
    assert window.size == 500 and window.room(1)


def test_waits_double_with_jitter_up_to_a_limit():
    first = [backoff(1) for _ in range(500)]
    assert 0.25 <= min(first) < 0.35 and 0.65 < max(first) <= 0.75
    means = [statistics.mean(backoff(n) for _ in range(500)) for n in (1, 2, 3)]
    assert means[1] == pytest.approx(2 * means[0], rel=0.15) and means[2] == pytest.approx(4 * means[0], rel=0.15)
    assert backoff(1000) <= 1.5 * BACKOFF_MOST_S
    assert all(7 <= backoff(1, 7.0) <= 7.7 for _ in range(50))
