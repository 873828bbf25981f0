"""The engine against a real vLLM: samples, seeds, counts, and what a server says no to."""

from __future__ import annotations

from pathlib import Path

import pytest

from palimpsest.generate.engines import open_engine
from palimpsest.generate.requests import Rendered, Request
from tests.vllm.conftest import CONTEXT, Tiny, study_on

pytestmark = pytest.mark.vllm


@pytest.fixture
def ask(tiny: Tiny, tmp_path: Path):
    """Asks for these requests; outcomes by key, and the engine."""
    study = study_on(tmp_path, {"tiny": tiny.running})

    def outcomes(requests: list[Request]):
        engine = open_engine(study, "rephrase", tiny.lake)
        return {outcome.key: outcome for outcome in engine.generate(requests)}, engine

    return outcomes


def samples(
    count: int, *, number: int = 0, text: str = "The tide rises twice a day.", chat: bool = True, first: int = 0
):
    prompt = Rendered(messages=(("user", f"{text} {number}"),)) if chat else Rendered(text=f"{text} {number}")
    return [
        Request(
            f"{number}-{g}", f"https://site.example/{number}", "rephrase", g, text, 5_000 + g, "group", prompt=prompt
        )
        for g in range(first, first + count)
    ]


@pytest.mark.parametrize("chat", [True, False])
def test_samples_differ_are_the_same_each_time_and_are_those_asked_for_alone(ask, chat):
    four, _ = ask(samples(4, chat=chat))
    assert {o.cause for o in four.values()} == {None}
    texts = {key: outcome.text for key, outcome in four.items()}
    assert len(set(texts.values())) == 4
    again, _ = ask(samples(4, chat=chat))
    assert {key: outcome.text for key, outcome in again.items()} == texts
    alone, _ = ask(samples(1, first=2, chat=chat))
    assert alone["0-2"].text == texts["0-2"] and alone["0-2"].output_tokens == four["0-2"].output_tokens
    later, _ = ask(samples(3, first=1, chat=chat))
    assert {key: outcome.text for key, outcome in later.items()} == {k: texts[k] for k in ("0-1", "0-2", "0-3")}


def test_tokens_are_counted_per_sample(ask, tiny):
    from palimpsest import tokenizer as tok

    found, engine = ask([r for n in range(8) for r in samples(4, number=n)])
    assert len(found) == 32
    tokenizer = tok.load(tiny.model / "tokenizer.json")
    for outcome in found.values():
        # what was sampled need not be what the tokenizer makes of the text, but it never is fewer tokens
        assert tok.count(tokenizer, [outcome.text])[0] <= outcome.output_tokens <= 24
        assert outcome.finish_reason == ("length" if outcome.output_tokens == 24 else "stop") or (
            outcome.finish_reason == "stop" and outcome.output_tokens == 24
        )
    prompts = [outcome.input_tokens for outcome in found.values()]
    assert min(prompts) > 5 and max(prompts) < 40
    assert engine.stats().output_tokens == sum(o.output_tokens for o in found.values())
    alone, _ = ask(samples(1, number=3, first=1))
    assert alone["3-1"].output_tokens == found["3-1"].output_tokens


def test_a_prompt_that_is_too_long_is_a_bad_request_in_the_servers_words(ask):
    found, _ = ask([*samples(2, number=1, text="tide " * CONTEXT * 2), *samples(2)])
    assert {key: o.cause for key, o in found.items()} == {
        "1-0": "bad_request",
        "1-1": "bad_request",
        "0-0": None,
        "0-1": None,
    }
    assert "HTTP 400" in found["1-0"].detail and str(CONTEXT) in found["1-0"].detail


def test_the_servers_queue_can_be_seen(tiny):
    import asyncio

    from palimpsest.generate.client import Client

    async def look():
        client = Client(tiny.endpoint.url, api_key=tiny.key)
        try:
            return await client.queue(), await client.models(), await client.healthy()
        finally:
            await client.close()

    queue, models, healthy = asyncio.run(look())
    assert queue == (0, 0) and healthy
    assert [(model.name, model.context) for model in models] == [(tiny.endpoint.model, CONTEXT)]
