"""The engine against a real server with faults: what comes back, what it costs, and that nothing is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from palimpsest.config import Study
from palimpsest.generate import concurrency, dispatch
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
    monkeypatch.setattr(dispatch, "RAMP_S", 0.05)
    monkeypatch.setattr(dispatch, "POLL_S", 0.2)
    monkeypatch.setattr(dispatch, "SETTLE_S", 0.05)


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
