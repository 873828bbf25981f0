"""One real vLLM server, as `palimpsest.serve` would start it, but without a key: not every client can send one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from palimpsest.config import Server
from palimpsest.lake import REPOSITORY, Lake
from palimpsest.serve import command, leftovers

ENVIRONMENTS = {"cuda": ".venv-vllm", "cpu": ".venv-vllm-cpu"}
READY_S = 600
COUNTERS = ("generation_tokens_total", "prefix_cache_queries_total", "prefix_cache_hits_total")


def device() -> str | None:
    """'cuda', 'cpu', or None where vLLM is not installed. PALIMPSEST_VLLM_PYTHON names another environment."""
    kind = "cuda" if command.visible_gpus() else "cpu"
    if not os.environ.get("PALIMPSEST_VLLM_PYTHON"):
        python = REPOSITORY / ENVIRONMENTS[kind] / "bin" / "python"
        if not python.exists():
            return None
        os.environ["PALIMPSEST_VLLM_PYTHON"] = str(python)
    return kind


@dataclass(frozen=True)
class Serving:
    url: str
    model: str
    """What requests name."""
    environment: dict[str, str]
    """For other programs of vLLM, such as its load generator."""

    def counters(self) -> dict[str, float]:
        """Tokens generated, and tokens looked up and found in the prefix cache, since the server started."""
        found = dict.fromkeys(COUNTERS, 0.0)
        for line in httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False).text.splitlines():
            name, _, value = line.rpartition(" ")
            name = name.partition("{")[0].removeprefix("vllm:")
            if name in found:
                found[name] += float(value)
        return found

    def forget(self) -> None:
        """Empty the prefix cache, so that no run finds what another left there."""
        httpx.post(f"{self.url}/reset_prefix_cache", timeout=30, trust_env=False).raise_for_status()


@contextlib.contextmanager
def serving(server: Server, lake: Lake, log: Path) -> Iterator[Serving]:
    spec = command.specification(server, lake)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | spec.environment | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment = {key: value for key, value in environment.items() if key not in ("PYTHONPATH", "VLLM_API_KEY")}
    started = [part.format(port=port) for part in spec.command]
    here = Serving(f"http://127.0.0.1:{port}", spec.model, environment)
    with log.open("wb") as output:
        marked = environment | leftovers.marked(spec.id, 0)
        process = subprocess.Popen(started, env=marked, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until = time.monotonic() + READY_S
        while not _answers(here.url):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"vLLM is not ready; {log} ends with:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.5)
        yield here
    finally:
        process.terminate()
        leftovers.sweep(spec.id, grace=10)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
