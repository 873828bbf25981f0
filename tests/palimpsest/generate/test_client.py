"""The client alone: what a server's answers and its silence become, and what is made of hostile ones."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from email.utils import formatdate

import pytest

from palimpsest.generate import client as clients
from palimpsest.generate.answers import Sample, body, read
from palimpsest.generate.client import Client, Fault, message, proxy, retry_after
from palimpsest.generate.requests import Rendered
from palimpsest.generate.routing import flights, weight
from tests.palimpsest.generate.faulty import Faulty, free_port
from tests.palimpsest.generate.test_vllm_engine import requests


def ask(url, work, **settings):
    """What ``work(client)`` gives, or the fault it raises."""

    async def run():
        client = Client(url, **settings)
        try:
            return await work(client)
        except Fault as fault:
            return fault
        finally:
            await client.close()

    return asyncio.run(run())


def post(url, prompt="page 1", n=1, **settings):
    content = body("tiny", Rendered(text=prompt), {"max_tokens": 4}, seed=1, n=n)
    return ask(url, lambda client: client.post("/v1/completions", content), **settings)


@pytest.fixture
def raw():
    """A socket that answers each connection with these bytes and closes it."""
    listeners = []

    def serve(answer: bytes, times: int = 3):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work():
            for _ in range(times):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("400", "bad_request"),
        ("404", "bad_request"),
        ("413", "bad_request"),
        ("422", "bad_request"),
        ("302", "bad_request"),
        ("401", "denied"),
        ("403", "denied"),
        ("408", "busy"),
        ("425", "busy"),
        ("429", "busy"),
        ("503", "busy"),
        ("500", "error"),
        ("502", "error"),
        ("504", "error"),
        ("reset", "lost"),
        ("hang", "timeout"),
        ("html", "garbled"),
        ("deep", "garbled"),
    ],
)
def test_each_failure_is_of_one_kind(fault, kind):
    with Faulty() as server:
        found = post(server.url, f"[[{fault}]]", timeout_s=0.5)
        assert (found.kind, found.status) == (kind, int(fault) if fault.isdigit() else None)


def test_no_server_is_unreachable_and_not_lost():
    assert post(f"http://127.0.0.1:{free_port()}").kind == "unreachable"


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x16\x03\x01\x00\x00"])
def test_what_is_not_http_is_garbled(raw, answer):
    assert post(raw(answer)).kind in ("garbled", "lost")


def test_an_answer_that_is_cut_off_or_empty_is_lost(raw):
    assert post(raw(b"")).kind == "lost"
    assert post(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")).kind == "lost"


def test_an_answer_without_end_is_given_up(raw, monkeypatch):
    monkeypatch.setattr(clients, "LARGEST", 1000)
    found = post(raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000))
    assert found.kind == "garbled" and "larger than 1000 bytes" in found.detail


def test_a_message_is_found_in_every_usual_body_and_is_short():
    assert message(b'{"error": {"message": "too long", "code": 400}}') == "too long"
    assert message(b'{"error": "Unauthorized"}') == "Unauthorized"
    assert message(b'{"detail": [{"msg": "n"}]}') == '[{"msg": "n"}]'
    assert message(b"") == "(empty)" and message(b"\xff\xfe").startswith("\ufffd")
    assert len(message(json.dumps({"error": {"message": "x" * 9000}}).encode())) == 9000
    assert len(Fault("error", "x" * 9000).detail) == 500


def test_retry_after_is_seconds_or_a_date():
    assert retry_after("7") == 7
    assert retry_after(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=2)
    assert retry_after(formatdate(time.time() - 60, usegmt=True)) == 0
    assert [retry_after(v) for v in (None, "", "soon", "-3", "1e9", "²")] == [None] * 6


def test_proxies_of_the_environment_are_for_others_than_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    for url in ("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000", "http://127.8.8.8"):
        assert proxy(url) is None
    assert proxy("http://gpu.inside.example:8000") is None
    assert proxy("http://gpu.example:8000") == proxy("https://gpu.example") == "http://proxy.example:3128"
    with Faulty() as server:
        assert post(server.url)["model"] == "tiny"


def test_queues_of_all_engines_are_added_up(raw):
    text = (
        b'vllm:num_requests_running{engine="0",model_name="a}b"} 3.0\n'
        b'vllm:num_requests_running{engine="1",model_name="m"} 4.0\n'
        b'vllm:num_requests_waiting{engine="0",model_name="m"} 1e1\n'
        b'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0\n'
    ).replace(b"a}b", b"m")
    url = raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
    assert ask(url, lambda client: client.queue()) == (7, 10)
    with Faulty(metrics=False) as server:
        assert ask(server.url, lambda client: client.queue()) is None


def test_models_are_listed_and_nonsense_is_told():
    with Faulty(context=None) as server:
        [model] = ask(server.url, lambda client: client.models())
        assert (model.name, model.context) == ("tiny", None)


def test_every_sampling_parameter_is_sent_and_token_ids_only_for_several_samples():
    sampling = {"temperature": 1.0, "top_k": 0, "stop": []}
    one = json.loads(body("m", Rendered(text="ä\ud800"), sampling, seed=3, n=1))
    assert one == {"model": "m", "n": 1, "seed": 3, "prompt": "ä\ud800", **sampling}
    chat = json.loads(body("m", Rendered(messages=(("user", "hi"),)), sampling, seed=3, n=2))
    assert chat["messages"] == [{"role": "user", "content": "hi"}] and chat["return_token_ids"] is True


def choice(index=0, text="a b", **changes):
    return {"index": index, "text": text, "finish_reason": "stop", **changes}


def whole(*choices, **changes):
    return {"model": "m", "choices": list(choices), "usage": {"prompt_tokens": 5, "completion_tokens": 9}, **changes}


def test_tokens_are_exact_for_one_sample_and_by_ids_and_else_divided_exactly():
    [one] = read(whole(choice()), "m", 1).samples
    assert one == Sample("a b", "stop", 9)
    ids = read(whole(choice(0, token_ids=[1, 2]), choice(1, token_ids=[3, 4, 5, 6, 7, 8, 9])), "m", 2)
    assert [s.output_tokens for s in ids.samples] == [2, 7] and ids.input_tokens == 5
    divided = read(whole(choice(0, "x" * 10), choice(1, "x" * 80)), "m", 2)
    assert [s.output_tokens for s in divided.samples] == [1, 8]
    without = read({"model": "m", "choices": [choice()]}, "m", 1)
    assert without.samples[0].output_tokens is None and without.input_tokens is None


def test_samples_are_sorted_by_their_index():
    found = read(whole(choice(1, "second"), choice(0, "first")), "m", 2)
    assert [sample.text for sample in found.samples] == ["first", "second"]


NESTED = {"a": 1}
for _ in range(2000):
    NESTED = {"a": NESTED}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "text",
        3,
        {},
        NESTED,
        {"model": NESTED},
        {"model": "m"},
        whole(choices=None),
        whole(choices={"0": choice()}),
        whole(None),
        whole(NESTED),
        whole(choice(index=None)),
        whole(choice(index=True)),
        whole(choice(index=-1)),
        whole(choice(index=10**30)),
        whole(choice(), choice()),
        whole(choice(text=None)),
        whole(choice(text=3)),
        whole(choice(text=NESTED)),
        whole(choice(text="\udc00")),
        whole(choice(finish_reason=None)),
        whole(choice(finish_reason="abort")),
        whole(choice(finish_reason=NESTED)),
        whole({"index": 0, "finish_reason": "stop", "message": None}),
        whole({"index": 0, "finish_reason": "stop", "message": {"content": None}}),
        whole({"index": 0, "finish_reason": "stop", "message": ["content"]}),
        whole(choice(), model="other"),
    ],
)
def test_hostile_answers_are_named_and_crash_nothing(answer):
    [found] = read(answer, "m", 1).samples
    assert isinstance(found, str) and 5 < len(found) < 700


@pytest.mark.parametrize("usage", [None, [], {"completion_tokens": "9"}, {"completion_tokens": -1}, NESTED])
def test_hostile_counts_are_no_counts(usage):
    [found] = read(whole(choice(), usage=usage), "m", 1).samples
    assert found == Sample("a b", "stop", None)


def test_an_empty_text_is_a_text():
    assert read(whole(choice(text="")), "m", 1).samples == (Sample("", "stop", 9),)


def test_flights_are_contiguous_samples_of_one_group():
    planned = [*requests(2, 5), *requests(1, 70, start=5)]
    del planned[7]
    found = [(flight.n, flight.requests[0].seed) for flight in flights(planned)]
    assert found == [(5, 0), (2, 1000), (2, 1003), (32, 5000), (32, 5032), (6, 5064)]


def test_a_server_less_moves_only_its_own_documents():
    places = [f"https://site.example/{n}" for n in range(2000)]

    def owner(place, replicas):
        return max(replicas, key=lambda replica: weight(place, replica))

    four = {place: owner(place, "0123") for place in places}
    three = {place: owner(place, "012") for place in places}
    assert all(three[place] == four[place] for place in places if four[place] != "3")
    shares = [sum(three[place] == replica for place in places) for replica in "012"]
    assert min(shares) > 550
