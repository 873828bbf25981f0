"""What a vLLM server says of itself at /metrics, read for a person: requests, cache, tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

LONGEST = 4_000_000
"""Bytes of metrics that are read; vLLM has about 60,000 per engine."""
SAMPLE = re.compile(r"^(vllm:\w+?)(?:_total)?(?:\{.*\})?\s+([-+.\deE]+|NaN|[-+]?Inf)$", re.MULTILINE)


class NoMetrics(ConnectionError):
    """Somebody answered, but not with metrics."""


@dataclass(frozen=True)
class Vitals:
    """Shares are 0 to 1; None where the server does not say."""

    running: float | None = None
    waiting: float | None = None
    cache_use: float | None = None
    prefix_hits: float | None = None
    """Share of prompt tokens that were in the prefix cache, since the server started."""
    prompt_tokens: float | None = None
    tokens: float | None = None


def metrics(url: str, timeout_s: float = 2.0) -> str:
    """The text at ``url``/metrics, as the server sent it; raises `ConnectionError` with the reason if there is none."""
    found = bytearray()
    try:
        with httpx.stream("GET", f"{url}/metrics", timeout=timeout_s, trust_env=False) as answer:
            if answer.status_code != 200:
                raise NoMetrics(f"{url}/metrics answered {answer.status_code}")
            for chunk in answer.iter_bytes():
                found += chunk
                if len(found) > LONGEST:
                    break
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(f"{url}/metrics: {error or type(error).__name__}") from error
    return found.decode(errors="replace")


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a server without metrics is there: healthy, or with models, even if it lists them only for a key."""
    for path, good in (("health", {200}), ("v1/models", {200, 401, 403})):
        try:
            with httpx.stream("GET", f"{url}/{path}", timeout=timeout_s, trust_env=False) as answer:
                if answer.status_code in good:
                    return True
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
    return False


def vitals(text: str) -> Vitals:
    """The figures of one server; those of several engines behind it are added, cache use is that of the fullest."""
    found: dict[str, list[float]] = {}
    for name, value in SAMPLE.findall(text):
        found.setdefault(name.removeprefix("vllm:"), []).append(float(value))
    added = {name: sum(values) for name, values in found.items()}
    asked = added.get("prefix_cache_queries")
    return Vitals(
        running=added.get("num_requests_running"),
        waiting=added.get("num_requests_waiting"),
        cache_use=max(found.get("kv_cache_usage_perc", []), default=None),
        prefix_hits=added.get("prefix_cache_hits", 0.0) / asked if asked else None,
        prompt_tokens=added.get("prompt_tokens"),
        tokens=added.get("generation_tokens"),
    )
