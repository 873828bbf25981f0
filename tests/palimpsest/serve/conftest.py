"""Studies with servers, and a small real server in vLLM's place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from palimpsest import serve
from palimpsest.config import Study
from palimpsest.lake import Lake
from palimpsest.serve import folder as folders
from palimpsest.serve import leftovers
from tests.palimpsest.serve import stand_in


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def make(make_study, model: Path) -> Callable[..., Study]:
    """A study with the server 'tiny'; keyword arguments are its settings (None: left out), ``named`` its name."""

    def made(named: str = "small", behaviour: str = "ok", **server: object) -> Study:
        settings = {"model": str(model), "gpus": 0, "arguments": {"behaviour": behaviour}, "ready_within_s": 60}
        settings = {name: value for name, value in (settings | server).items() if value is not None}
        study = make_study(servers={"tiny": settings})
        return study.model_copy(update={"name": named})

    return made


@pytest.fixture
def here(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """The lake of a machine whose vLLM is the stand-in; nothing of it runs on after the test."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{Path(stand_in.__file__).read_text()}")
    program.chmod(0o755)
    monkeypatch.setenv("PALIMPSEST_VLLM_PYTHON", str(program))
    monkeypatch.delenv("PALIMPSEST_VLLM_API_KEY", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield lake
    serve.stop(None)
    assert [process for one in folders.folders() for process in leftovers.living(one.id)] == []


def only() -> folders.Folder:
    [found] = folders.folders()
    return found


def processes() -> list[psutil.Process]:
    """Everything of the only server: the API server, its engine, its worker."""
    return leftovers.living(only().id)


def until(holds: Callable[[], object], within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(0.05)
