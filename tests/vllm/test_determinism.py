"""Under which settings a seed gives one text, whatever else the server does: what the ledger's crash safety rests on.

On a CPU (vLLM 0.32, eager, float32, prefix cache on): whenever no prompt is cut, that is without chunked prefill,
as `palimpsest.serve` starts it.
"""

from __future__ import annotations

import asyncio
import random

import aiohttp
import pytest

from tests.vllm.conftest import Tiny

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
TEXT = "The tide rises twice a day, and bread wants time, not force; a small train goes over the old bridge."
PROMPTS = 24


def prompts() -> list[str]:
    """Of some 400 tokens each: together four times what an engine reads in one step."""
    return [" ".join(random.Random(number).choices(TEXT.split(), k=150)) for number in range(PROMPTS)]


async def ask(tiny: Tiny, wanted: list[tuple[str, int]], *, n: int = 1, at_once: int = 64) -> list[list[str]]:
    """The texts of ``n`` samples for each prompt and seed."""
    gate = asyncio.Semaphore(at_once)
    headers = {"Authorization": f"Bearer {tiny.key}"}
    async with aiohttp.ClientSession(tiny.endpoint.url, headers=headers) as session:

        async def one(prompt: str, seed: int) -> list[str]:
            body = {"model": tiny.endpoint.model, "prompt": prompt, "seed": seed, "n": n, "max_tokens": 32}
            async with gate, session.post("/v1/completions", json=body | {"temperature": 1.0}) as answer:
                assert answer.status == 200, await answer.text()
                choices = (await answer.json())["choices"]
                return [choice["text"] for choice in sorted(choices, key=lambda choice: choice["index"])]

        return await asyncio.gather(*(one(prompt, seed) for prompt, seed in wanted))


def test_a_seed_gives_one_text_alone_and_in_any_company(tiny):
    """It also ends no engine: a seeded prompt that is cut in two does, on a CPU."""
    wanted = [(prompt, 1000 * number) for number, prompt in enumerate(prompts())]
    together = asyncio.run(ask(tiny, wanted))
    assert len({text for texts in together for text in texts}) > PROMPTS / 2, "texts that are all alike show nothing"
    assert asyncio.run(ask(tiny, wanted[:6], at_once=1)) == together[:6]
    assert asyncio.run(ask(tiny, wanted[::-1], at_once=5))[::-1] == together


def test_samples_asked_for_together_are_those_asked_for_one_by_one(tiny):
    wanted = [(prompt, 1000 * number) for number, prompt in enumerate(prompts()[:8])]
    together = asyncio.run(ask(tiny, wanted, n=4))
    alone = asyncio.run(ask(tiny, [(prompt, seed + g) for prompt, seed in wanted for g in range(4)]))
    assert [text for texts in together for text in texts] == [texts[0] for texts in alone]
