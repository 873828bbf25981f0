"""The keeper with a real vLLM: whoever is killed, the server is back, or nothing of it is left."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import psutil
import pytest

from palimpsest import serve
from palimpsest.config import ConfigError, Study
from palimpsest.serve import command, leftovers, replica
from palimpsest.serve import folder as folders
from tests.vllm.conftest import Tiny, study_on

pytestmark = pytest.mark.vllm


@pytest.fixture
def study(tiny: Tiny, tmp_path: Path) -> Study:
    """Uses the session's server: the same settings are the same server."""
    return study_on(tmp_path, {"tiny": tiny.server})


@pytest.fixture
def place(tiny: Tiny) -> folders.Folder:
    return next(one for one in folders.folders() if tiny.endpoint.url in str(one.status()))


def running(place: folders.Folder) -> dict[str, psutil.Process]:
    """The server's processes by command line, or by the title vLLM gave them."""
    return {" ".join(process.cmdline()).strip(): process for process in leftovers.living(place.id)}


def nothing_left(place: folders.Folder, within_s: float) -> None:
    end = time.monotonic() + within_s
    while running(place) or place.keeper():
        assert time.monotonic() < end, running(place)
        time.sleep(0.05)


def answers(tiny: Tiny, endpoint: serve.Endpoint) -> bool:
    body = {"model": endpoint.model, "prompt": "The tide", "max_tokens": 4}
    headers = {"Authorization": f"Bearer {tiny.key}"}
    return httpx.post(f"{endpoint.url}/v1/completions", json=body, headers=headers, timeout=60).is_success


def test_every_process_of_vllm_carries_the_marker_and_none_shows_the_key(tiny, place):
    processes = running(place)
    assert {"VLLM::EngineCore", "VLLM::Worker"} <= processes.keys()
    assert all(process.environ()[leftovers.MARKER] == place.id for process in processes.values())
    assert not any(tiny.key in line for line in processes)


@pytest.mark.parametrize("victim", ["api_server", "VLLM::EngineCore"])
def test_a_killed_process_of_vllm_is_replaced_with_all_others(tiny, study, place, victim):
    starts, before = place.status()["replicas"][0]["starts"], running(place)
    next(process for line, process in before.items() if victim in line).kill()
    end = time.monotonic() + 240
    while (now := place.status()["replicas"][0])["starts"] == starts or now["state"] != "ready":
        assert time.monotonic() < end, place.tail(0)
        time.sleep(0.2)
    assert not any(leftovers.runs(process) for process in before.values())
    assert serve.endpoints(study, "tiny", tiny.lake) == [tiny.endpoint]
    assert answers(tiny, tiny.endpoint)


def test_what_vllm_says_of_a_model_it_cannot_serve_is_what_its_keeper_says(tiny, tmp_path, monkeypatch):
    """One start instead of three: each imports vLLM for nothing. How a user learns of it is seen without vLLM."""
    monkeypatch.setattr(replica, "TRIES", 1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama", "architectures": ["NoSuchModel"]}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no weights")
    study = study_on(tmp_path, {"broken": tiny.server | {"model": str(tmp_path / "model")}})
    folder, spec = folders.Folder(tmp_path), command.specification(study.servers["broken"], tiny.lake)
    broken = replica.Replica(folder, spec, 0, tiny.key, lambda: None)
    with pytest.raises(replica.GaveUp, match="before it was ready; the end of its log(.|\n)*NoSuchModel"):
        asyncio.run(broken.keep())
    assert leftovers.living(spec.id) == []


def test_an_argument_vllm_does_not_know_is_told_at_the_first_start(tiny, tmp_path):
    server = tiny.server | {"arguments": {"no-such-argument": 1}}
    with pytest.raises(ConfigError, match="unrecognized arguments: --no-such-argument"):
        serve.ensure(study_on(tmp_path, {"wrong": server}), "wrong", tiny.lake)


def test_vllm_ends_with_its_keeper(place):
    """The session's server: this test comes last.

    That `ensure` starts another one is seen without vLLM, that it ends when nobody uses it in test_dag.py.
    """
    psutil.Process(place.keeper()).kill()
    nothing_left(place, within_s=10)
