"""The engine against a real server with faults: what comes back, what it costs, and that nothing is lost."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from palimpsest.config import ConfigError, Study
from palimpsest.generate import concurrency, dispatch, faults, watch
from palimpsest.generate.engines import open_engine
from palimpsest.generate.requests import Rendered, Request
from palimpsest.generate.vllm import Vllm
from palimpsest.lake import Lake
from tests.palimpsest.generate.faulty import Faulty, text_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits of a real life, in the time of a test."""
    monkeypatch.setattr(concurrency, "BACKOFF_S", 0.02)
    monkeypatch.setattr(watch, "RAMP_S", 0.05)
    monkeypatch.setattr(watch, "POLL_S", 0.2)
    monkeypatch.setattr(faults, "SETTLE_S", 0.05)


@pytest.fixture
def engine(tmp_path: Path, lake: Lake):
    """An engine on these servers; keyword arguments are settings of the study's server."""

    def make(*servers: Faulty | str, model: str = "org/tiny", **settings: object) -> Vllm:
        (tmp_path / "tokenizer.json").write_text("{}")
        urls = [one if isinstance(one, str) else one.url for one in servers]
        for one in servers:
            if isinstance(one, Faulty) and one.model == "tiny":
                one.model = model
        server = {"model": model, "revision": COMMIT, "tokenizer": str(tmp_path), "endpoints": urls}
        asked = {"kind": "rephrase", "generations": 4, "engine": {"kind": "vllm", "server": "local"}}
        sampling = {"max_tokens": 16, "temperature": 0.7}
        study = Study.model_validate(
            {
                "name": "asked",
                "description": "test",
                "corpora": ["sample"],
                "validation": {"rule": "hash_share", "share": 0.2},
                "servers": {"local": server | {"ready_within_s": 5, "request_timeout_s": 5} | settings},
                "strategies": {"asked": asked | {"sampling": sampling}},
                "layouts": {"real": {"kind": "real"}},
                "mixes": {"real": {"layout": "real", "epochs": 1}},
                "reference": "real",
                "training": {
                    "model": {"layers": 1, "width": 32, "mlp": 64, "heads": 2},
                    "context": 32,
                    "batch": 4,
                    "block": 8,
                    "seeds": [0],
                },
            }
        )
        return open_engine(study, "asked", lake)

    return make


def requests(count: int, samples: int = 1, words: str = "", chat: bool = False, start: int = 0) -> list[Request]:
    """``samples`` of each of ``count`` documents; ``words`` stand in each prompt."""
    found = []
    for number in range(start, start + count):
        prompt = f"page {number} {words}".strip()
        rendered = Rendered(messages=(("system", "Write."), ("user", prompt))) if chat else Rendered(text=prompt)
        found += [
            Request(
                key=f"{number}-{g}",
                url=f"https://site.example/{number}",
                kind="rephrase",
                g=g,
                document=prompt,
                seed=number * 1000 + g,
                group=f"group {number}",
                prompt=rendered,
            )
            for g in range(samples)
        ]
    return found


def poison(fault: str, number: int = 999, samples: int = 1) -> list[Request]:
    return requests(1, samples, f"[[{fault}]]", start=number)


def check(outcomes, asked):
    """Each request has one outcome, and those with a text have the right one."""
    assert Counter(o.key for o in outcomes) == Counter(r.key for r in asked)
    by_key = {r.key: r for r in asked}
    for outcome in outcomes:
        request = by_key[outcome.key]
        assert outcome.seed == request.seed and outcome.engine == "vllm" and outcome.model == f"org/tiny@{COMMIT}"
        assert (outcome.text is None) == (outcome.cause is not None)
        if outcome.text is not None:
            prompt = request.prompt.messages[-1][1] if request.prompt.messages else request.prompt.text
            assert outcome.text == text_of(prompt, request.seed)
            assert outcome.output_tokens == len(outcome.text.split())
            assert outcome.finish_reason == ("stop" if outcome.output_tokens < 16 else "length")
            assert outcome.input_tokens == len(prompt.split())
    return {o.key: o.cause for o in outcomes if o.cause}


@pytest.mark.parametrize("chat", [False, True])
def test_each_sample_has_its_text_tokens_and_reason_in_one_request_per_group(engine, chat):
    asked = requests(20, 4, chat=chat)
    with Faulty() as server:
        asking = engine(server)
        assert check(list(asking.generate(asked)), asked) == {}
        assert len(server.seen) == 20
        body = server.seen[0]
        assert {body["n"] for body in server.seen} == {4} and body["seed"] % 1000 == 0
        assert (body["temperature"], body["max_tokens"], body["top_k"], body["min_p"]) == (0.7, 16, 0, 0.0)
        assert body["model"] == "org/tiny" and ("messages" in body) == chat


def test_samples_that_are_missing_in_between_are_asked_for_alone_and_come_out_the_same(engine):
    asked = [r for r in requests(3, 6) if r.g in (0, 1, 3, 5)]
    with Faulty() as server:
        assert check(list(engine(server).generate(asked)), asked) == {}
        assert sorted(body["n"] for body in server.seen) == [1, 1, 1, 1, 1, 1, 2, 2, 2]


def test_a_large_group_is_asked_for_in_several_requests(engine):
    asked = requests(1, 70)
    with Faulty() as server:
        assert check(list(engine(server).generate(asked)), asked) == {}
        assert sorted(body["n"] for body in server.seen) == [6, 32, 32]


def test_the_key_is_sent_to_the_server_and_to_nobody_else(engine, monkeypatch, caplog):
    monkeypatch.setenv("PALIMPSEST_VLLM_API_KEY", "very-secret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    asked = [*requests(2), *poison("400")]
    with Faulty(key="very-secret") as server, caplog.at_level("DEBUG"):
        outcomes = list(engine(server).generate(asked))
        assert check(outcomes, asked) == {"999-0": "bad_request"}
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer very-secret"}
    assert "very-secret" not in caplog.text and "very-secret" not in repr(outcomes)


def test_a_wrong_key_is_an_error_that_says_where_it_belongs(engine, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_VLLM_API_KEY", "wrong")
    with (
        Faulty(key="right") as server,
        pytest.raises(ConfigError, match="HTTP 401: Unauthorized.*the key in PALIMPSEST_VLLM_API_KEY is not accepted"),
    ):
        list(engine(server).generate(requests(1)))


def test_another_model_on_the_server_is_an_error_that_lists_what_it_serves(engine):
    with Faulty(model="org/large") as server, pytest.raises(ConfigError, match="serves org/large, not 'org/tiny'"):
        list(engine(server).generate(requests(1)))


def test_a_server_with_less_context_than_planned_is_an_error(engine):
    with Faulty(context=2048) as server, pytest.raises(ConfigError, match="write 'context: 2048'"):
        list(engine(server).generate(requests(1)))


def test_no_server_in_time_is_weather(engine):
    with Faulty() as server:
        asking = engine(server, ready_within_s=0.5)
        server.stop()
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="no vLLM server for 0 s|no vLLM server for 1 s"):
            list(asking.generate(requests(1)))
        assert time.monotonic() - start < 4
        server.start()


def test_nothing_to_ask_needs_no_server(engine):
    assert list(engine("http://127.0.0.1:9").generate([])) == []


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_bad_request_is_told_at_once_in_the_servers_words(engine, status):
    asked = [*requests(5), *poison(str(status), samples=2)]
    with Faulty() as server:
        outcomes = list(engine(server).generate(asked))
        assert check(outcomes, asked) == {"999-0": "bad_request", "999-1": "bad_request"}
        assert server.asked()[f"page 999 [[{status}]]"] == 1
    assert {o.detail for o in outcomes if o.cause} == {f"HTTP {status}: no: page 999 [[{status}]]"}


@pytest.mark.parametrize("fault", ["429:3", "503:3", "500:3", "502:2", "reset:1", "html:2", "408:1"])
def test_weather_is_tried_again_until_it_has_passed(engine, fault):
    asked = [*requests(10), *poison(fault, samples=3)]
    with Faulty() as server:
        asking = engine(server)
        assert check(list(asking.generate(asked)), asked) == {}
        assert server.asked()[f"page 999 [[{fault}]]"] == int(fault[-1]) + 1
        assert asking.stats().retries == int(fault[-1])


@pytest.mark.parametrize(
    ("fault", "cause", "times", "detail"),
    [
        ("500", "server_error", 4, "HTTP 500: no: page 999"),
        ("html", "bad_answer", 4, "the answer is not JSON"),
        ("list", "bad_answer", 4, "no JSON object"),
        ("deep", "bad_answer", 4, "not JSON"),
        ("other_model", "bad_answer", 4, "of model 'another', not 'org/tiny'"),
        ("twice", "bad_answer", 4, "sample 1 twice"),
    ],
)
def test_what_never_works_is_given_up_after_a_few_tries(engine, fault, cause, times, detail):
    asked = [*requests(10), *poison(fault, samples=2), *requests(10, start=100)]
    with Faulty() as server:
        outcomes = list(engine(server).generate(asked))
        assert check(outcomes, asked) == {"999-0": cause, "999-1": cause}
        assert server.asked()[f"page 999 [[{fault}]]"] == times
    assert all(detail in o.detail for o in outcomes if o.cause)


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("few", "the answer has 0 samples of 1 asked for"),
        ("null", "a sample without a text"),
        ("surrogate", "surrogate"),
    ],
)
def test_good_samples_of_a_bad_answer_are_kept_and_only_the_others_asked_for_again(engine, fault, detail):
    asked = poison(fault, samples=3)
    with Faulty() as server:
        outcomes = list(engine(server).generate(asked))
        assert check(outcomes, asked) == {"999-2": "bad_answer"}
        bodies = [body for body in server.seen if body["max_tokens"] > 1]  # without the probe of the server
        assert [(body["n"], body["seed"] % 1000) for body in bodies] == [(3, 0), *[(1, 2)] * 3]
    assert detail in next(o.detail for o in outcomes if o.cause)


def test_samples_cut_off_by_a_server_that_stops_are_no_texts(engine):
    asked = poison("abort:1", samples=3)
    with Faulty() as server:
        assert check(list(engine(server).generate(asked)), asked) == {}
        assert [body["n"] for body in server.seen] == [3, 1]


def test_the_server_decides_how_long_to_wait(engine):
    asked = poison("429:1")
    with Faulty(retry_after="1") as server:
        assert check(list(engine(server).generate(asked)), asked) == {}
        first, second = server.sent_at
        assert 1.0 <= second - first < 3


@pytest.mark.parametrize("status", ["429", "503"])
def test_a_request_that_is_always_refused_while_others_are_answered_is_given_up(engine, monkeypatch, status):
    monkeypatch.setattr(concurrency, "BACKOFF_MOST_S", 0.05)
    asked = [*poison(status), *requests(200, start=100)]
    with Faulty(delay_s=0.05) as server:
        outcomes = list(engine(server, ready_within_s=1).generate(asked))
        assert check(outcomes, asked) == {"999-0": "server_error"}
        assert server.asked()[f"page 999 [[{status}]]"] >= faults.REFUSALS


def test_a_server_that_refuses_everything_is_weather_in_the_end(engine):
    with (
        Faulty(fail={"status": 429}) as server,
        pytest.raises(ConnectionError, match="refused every request"),
    ):
        list(engine(server, ready_within_s=1).generate(requests(20)))


def test_a_server_that_fails_at_everything_is_weather_and_no_request_is_blamed(engine):
    with Faulty(fail={"status": 500}) as server:
        outcomes = []
        with pytest.raises(ConnectionError, match="answered nothing since|HTTP 500"):
            outcomes.extend(engine(server, ready_within_s=1).generate(requests(20)))
        assert outcomes == []


def test_a_request_that_hangs_costs_two_time_limits_and_the_others_go_on(engine):
    asked = [*requests(10), *poison("hang"), *requests(200, start=100)]
    with Faulty(delay_s=0.02) as server:
        start = time.monotonic()
        outcomes = list(engine(server, request_timeout_s=1).generate(asked))
        assert check(outcomes, asked) == {"999-0": "timeout"}
        assert time.monotonic() - start >= 2.0
        assert server.asked()["page 999 [[hang]]"] == 2
    assert "no answer within 1 s" in next(o.detail for o in outcomes if o.cause)


def test_a_server_that_hangs_altogether_is_weather_and_no_request_is_blamed(engine):
    with Faulty(stuck=True) as server:
        outcomes = []
        with pytest.raises(ConnectionError, match="no vLLM server for"):
            outcomes.extend(engine(server, request_timeout_s=0.5, ready_within_s=1.5).generate(requests(5)))
        assert outcomes == []


def test_a_server_that_hung_and_recovers_is_asked_again_and_nothing_is_lost(engine):
    asked = requests(5)
    with Faulty(stuck=True) as server:
        threading.Timer(2.5, lambda: setattr(server, "stuck", False)).start()
        assert check(list(engine(server, request_timeout_s=0.5, ready_within_s=20).generate(asked)), asked) == {}


def test_a_poison_that_crashes_the_server_is_found_and_nobody_else_is_blamed(engine):
    asked = [*requests(40, 2), *poison("crash", samples=2), *requests(40, 2, start=100)]
    with Faulty(delay_s=0.8) as server:
        outcomes = list(engine(server).generate(asked))
        assert check(outcomes, asked) == {"999-0": "server_crash", "999-1": "server_crash"}
        assert server.crashes == faults.STRIKES
        among_all, _, among_few, alone, again = server.together
        assert len(among_all) > 9 >= len(among_few)  # the root of the 81 requests
        assert alone == again == ["page 999 [[crash]]"]


def test_two_poisons_cost_no_more_than_twice_as_many_crashes(engine):
    asked = [*requests(20), *poison("crash"), *requests(20, start=100), *poison("crash", 998)]
    with Faulty(delay_s=0.05, down_s=0.2) as server:
        assert set(check(list(engine(server).generate(asked)), asked)) == {"999-0", "998-0"}
        assert server.crashes <= 2 * faults.STRIKES


def test_a_lone_poison_is_blamed_only_once_the_server_generates_something_else(engine):
    asked = poison("crash")
    with Faulty(down_s=0.2) as server:
        assert check(list(engine(server).generate(asked)), asked) == {"999-0": "server_crash"}
        assert [body.get("max_tokens") for body in server.seen] == [16] * faults.STRIKES + [1]


def test_killed_again_and_again_the_server_gives_every_text_and_nobody_is_blamed(engine):
    asked = requests(120, 2)
    with Faulty(delay_s=0.1, slots=40, down_s=0.15) as server:
        got = []
        for outcome in engine(server).generate(asked):
            got.append(outcome)
            if len(got) in (10, 60, 61, 62, 120, 180, 181, 235):
                server._do(server._crash())
        assert check(got, asked) == {}
        assert server.crashes == 8


def test_a_server_that_is_gone_for_good_is_weather_and_what_came_is_kept(engine):
    with Faulty(delay_s=0.05, down_s=-1) as server:
        outcomes = []
        with pytest.raises(ConnectionError, match="no vLLM server for 1 s.*run the task again"):
            outcomes.extend(engine(server, ready_within_s=1).generate([*requests(5), *poison("crash")]))
        assert len(outcomes) <= 5 and not [o for o in outcomes if o.cause]


def test_documents_stay_with_their_server_and_move_when_it_is_down(engine):
    asked = requests(60, 3)
    with Faulty() as one, Faulty() as other:
        assert check(list(engine(one, other).generate(asked)), asked) == {}
        first, second = set(one.asked()), set(other.asked())
        assert first.isdisjoint(second) and min(len(first), len(second)) > 10
        other.stop()
        one.seen.clear()
        assert check(list(engine(one, other).generate(asked)), asked) == {}
        assert len(one.asked()) == 60
        other.start()


def test_a_server_that_comes_back_gets_work_again(engine):
    asked = requests(300)
    with Faulty(delay_s=0.05, slots=10) as one, Faulty(delay_s=0.05, slots=10) as other:
        other.stop()
        outcomes = []
        for outcome in engine(one, other).generate(asked):
            outcomes.append(outcome)
            if len(outcomes) == 50:
                other.start()
        assert check(outcomes, asked) == {}
        assert len(other.asked()) > 50


def test_after_one_crash_everything_goes_on_at_full_speed(engine):
    asked = requests(300)
    with Faulty(delay_s=0.2, slots=60) as server:
        outcomes = []
        for outcome in engine(server).generate(asked):
            outcomes.append(outcome)
            if len(outcomes) == 60:
                server._do(server._crash())
                server.most = 0
            if len(outcomes) == 70:
                assert server.most == 60
        assert check(outcomes, asked) == {}


def test_a_poison_stops_one_server_while_the_other_goes_on(engine):
    asked = [*requests(100), *poison("crash")]
    with Faulty(delay_s=0.05) as one, Faulty(delay_s=0.05) as other:
        assert check(list(engine(one, other).generate(asked)), asked) == {"999-0": "server_crash"}
        assert one.crashes + other.crashes == faults.STRIKES
        assert min(one.crashes, other.crashes) <= 1  # it failed over once; from the second crash on it stays


def test_a_server_restarted_at_another_port_is_found_there(engine, monkeypatch):
    from palimpsest import serve

    asked = requests(40)
    with Faulty(delay_s=0.05, slots=8, move=True, model="org/tiny") as server:
        asking = engine("http://127.0.0.1:9")
        asking.server = asking.server.model_copy(update={"endpoints": []})  # as if the platform had started it
        monkeypatch.setattr(serve, "ensure", lambda *_, **__: [serve.Endpoint(server.url, "org/tiny", 0)])
        touched = []
        monkeypatch.setattr(serve, "touch", lambda *_: touched.append(1))
        monkeypatch.setattr(serve, "api_key", lambda _: None)
        before, outcomes = server.url, []
        for outcome in asking.generate(asked):
            outcomes.append(outcome)
            if len(outcomes) == 10:
                server._do(server._crash())
        assert check(outcomes, asked) == {}
        assert server.url != before and touched


def test_a_404_about_one_request_is_that_requests_failure(engine):
    with Faulty() as server:
        outcomes = list(engine(server).generate([*requests(5), *poison("404")]))
    assert Counter(o.cause for o in outcomes) == {None: 5, "bad_request": 1}


def test_a_model_that_is_exchanged_under_way_fails_no_request(engine):
    """All answers are then 404; what was asked waits until the model is served again."""
    with Faulty(delay_s=0.02, slots=2) as server:
        stream = engine(server, ready_within_s=20).generate(requests(40))
        outcomes = [next(stream) for _ in range(5)]
        server.model, server.fail = "org/other", {"status": 404}
        back = threading.Timer(1.5, lambda: (setattr(server, "model", "org/tiny"), server.fail.clear()))
        back.start()
        outcomes += stream
        back.join()
    assert len(outcomes) == 40
    assert {o.cause for o in outcomes} == {None}


def test_the_plan_is_taken_as_needed(engine):
    taken = 0

    def plan():
        nonlocal taken
        for request in requests(5000):
            taken += 1
            yield request

    with Faulty(delay_s=0.05, slots=4) as server:
        stream = engine(server).generate(plan())
        for _ in range(20):
            next(stream)
        assert taken < 1500
        stream.close()
        left = taken
        time.sleep(0.2)
        assert taken == left


def test_closing_aborts_what_is_in_flight_on_the_server_and_leaves_no_thread(engine):
    before = threading.active_count()
    with Faulty(delay_s=30) as server:
        running = threading.active_count()
        asking = engine(server)
        stream = asking.generate([*requests(1, words="[[400]]"), *requests(30, start=1)])
        assert next(stream).cause == "bad_request"
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 2 and threading.active_count() == running
        until = time.monotonic() + 5
        while server.aborted < 30 and time.monotonic() < until:
            time.sleep(0.02)
        assert server.aborted == 30
        usage = asking.meter.snapshot()
        assert usage.pending == 0 and usage.repaid > 0
    assert threading.active_count() == before


def test_an_error_of_the_plan_comes_through(engine):
    def plan():
        yield from requests(3)
        raise ValueError("row 4 is damaged")

    with Faulty() as server, pytest.raises(ValueError, match="row 4 is damaged"):
        list(engine(server).generate(plan()))


def test_an_abandoned_iterator_stops_by_itself(engine):
    with Faulty(delay_s=0.05) as server:
        before = threading.active_count()
        next(engine(server).generate(requests(500)))
        gc.collect()
        assert threading.active_count() == before


def test_a_reader_that_does_not_take_outcomes_stops_the_engine(engine, monkeypatch):
    from palimpsest.generate import vllm

    monkeypatch.setattr(dispatch, "UNREAD", 50)
    monkeypatch.setattr(vllm, "UNREAD", 50)
    asked = requests(3000)
    with Faulty() as server:
        stream = engine(server).generate(asked)
        outcomes = [next(stream)]
        time.sleep(1.0)
        assert len(server.seen) < 2000
        assert check([*outcomes, *stream], asked) == {}


def test_seconds_add_up_and_each_outcome_has_its_share(engine):
    asked = [*requests(20, 2), *poison("500"), *poison("500:1", 998)]
    with Faulty(delay_s=0.1) as server:
        asking = engine(server)
        outcomes = list(asking.generate(asked))
    usage = asking.meter.snapshot()
    assert usage.wall == pytest.approx(usage.paid + usage.idle)
    assert usage.paid == pytest.approx(usage.useful + usage.repaid + usage.failed) and usage.pending == 0
    assert usage.useful == pytest.approx(sum(o.engine_seconds for o in outcomes if o.text is not None))
    assert usage.failed > 0 and usage.repaid > 0
    assert asking.stats().output_tokens == sum(o.output_tokens or 0 for o in outcomes)


def test_the_window_follows_the_servers_queue(engine):
    asked = requests(1500, 4)
    with Faulty(delay_s=0.2, slots=400) as server:
        asking = engine(server)
        widest = 0
        for _ in asking.generate(asked):
            widest = max(widest, asking.stats().window)
        assert server.most == 400 and widest >= 500


def test_a_refusing_server_gets_less_at_once(engine):
    asked = requests(200, words="[[429:1]]")
    with Faulty(metrics=False) as server:
        asking = engine(server)
        narrowest = 1000
        for _ in asking.generate(asked):
            narrowest = min(narrowest, asking.stats().window or 1000)
        assert narrowest <= concurrency.FIRST / 2
        assert set(server.asked().values()) == {2}
