"""Whether a server answers, and answers for the right model."""

from __future__ import annotations

import time

import httpx

from palimpsest.config import ConfigError

DENIED = (401, 403)


def listed(models: httpx.Response, model: str) -> str:
    """'' if the answer of /v1/models holds the model; else what it says instead."""
    if models.status_code in DENIED:
        return f"/v1/models answers {models.status_code}"
    try:
        names = [entry["id"] for entry in models.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return f"/v1/models answers {models.status_code}: {models.text[:200]!r}"
    return "" if model in names else f"/v1/models lists {', '.join(names) or 'nothing'}, not {model}"


def await_ready(url: str, model: str, key: str | None, hint: str, within_s: float) -> None:
    """Returns once a server that somebody else runs is ready.

    ConfigError: it is up, with another model or key; ``hint`` says what to do about the key. ConnectionError: it is not
    up by then.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    until, why = time.monotonic() + within_s, "no answer"
    with httpx.Client(timeout=10, headers=headers) as client:
        while True:
            try:
                health = client.get(f"{url}/health")
                why = f"/health answers {health.status_code}"
                if health.is_success:
                    models = client.get(f"{url}/v1/models")
                    why = listed(models, model)
                    if not why:
                        return
                    if models.status_code < 500:
                        wanted = hint if models.status_code in DENIED else "correct the study's 'servers'"
                        raise ConfigError(f"{url}: {why}; {wanted}")
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            if time.monotonic() >= until:
                raise ConnectionError(f"{url} was not ready within {within_s:g} s ('ready_within_s'): {why}")
            time.sleep(1)
