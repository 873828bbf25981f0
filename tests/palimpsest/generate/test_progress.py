"""What a person is told while a generation runs."""

from __future__ import annotations

from palimpsest.generate.engines import EndpointStats, EngineStats
from palimpsest.generate.progress import Reporter


def test_a_server_that_is_waited_for_is_named_with_what_keeps_it():
    said = []
    reporter = Reporter(10, said.append, every_s=0.0)
    away = EndpointStats("http://gpu:8000", up=False, why="/health does not answer 200")
    reporter.update(0, 0, EngineStats(endpoints=(away,)))
    assert said[-1].line().endswith("; waiting for http://gpu:8000: /health does not answer 200")
    here = EndpointStats("http://gpu:8001", up=True)
    reporter.update(4, 0, EngineStats(endpoints=(away, here)))
    assert "waiting" not in said[-1].line(), "the other one works"
    reporter.update(6, 0, EngineStats(endpoints=(away,)))
    assert "waiting" not in said[-1].line(), "nothing is left to ask"
