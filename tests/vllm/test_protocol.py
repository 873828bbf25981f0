"""What the platform counts on in vLLM itself."""

from __future__ import annotations

import httpx
import pytest

from tests.vllm.conftest import Tiny

pytestmark = pytest.mark.vllm
MESSAGES = [{"role": "user", "content": "Why do tides rise twice a day?"}]


@pytest.fixture
def ask(tiny: Tiny):
    with httpx.Client(
        base_url=tiny.endpoint.url, headers={"Authorization": f"Bearer {tiny.key}"}, timeout=60
    ) as client:

        def post(path: str, **body: object) -> dict:
            answer = client.post(f"/v1/{path}", json={"model": tiny.endpoint.model, "max_tokens": 16} | body)
            assert answer.is_success, answer.text
            return answer.json()

        yield post


def test_the_samples_of_a_request_are_those_of_single_requests_with_the_next_seeds(ask):
    """n=G is prefix-nested: sample i is what seed + i gives alone, so missing samples can be asked for later."""
    body = {"messages": MESSAGES, "temperature": 1.0}
    four = ask("chat/completions", n=4, seed=100, **body)["choices"]
    texts = [choice["message"]["content"] for choice in sorted(four, key=lambda choice: choice["index"])]
    alone = [ask("chat/completions", seed=100 + n, **body)["choices"][0]["message"]["content"] for n in range(4)]
    assert texts == alone
    assert len(set(texts)) == 4


def test_a_base_model_goes_on_from_plain_text_and_counts_its_tokens(ask):
    answer = ask("completions", prompt="The tide", seed=3)
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    assert 0 < answer["usage"]["completion_tokens"] <= 16
    assert answer["usage"]["prompt_tokens"] > 0


def test_without_its_key_the_server_answers_nothing_but_its_health(tiny):
    assert httpx.get(f"{tiny.endpoint.url}/health").status_code == 200
    assert httpx.get(f"{tiny.endpoint.url}/v1/models").status_code == 401
    headers = {"Authorization": f"Bearer {tiny.key}"}
    listed = httpx.get(f"{tiny.endpoint.url}/v1/models", headers=headers).json()["data"]
    assert [model["id"] for model in listed] == [tiny.endpoint.model]
