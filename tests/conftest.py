"""Fixtures of every test: an empty lake, a private state folder, and the shared test data where it exists."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling

from palimpsest.lake import REPOSITORY, Lake

for name, value in {
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_OFFLINE": "1",
}.items():
    os.environ[name] = value

GARDEN = """\
name: garden
description: Made for a test.
source: {kind: warc, files: [garden.warc.gz]}
start: 2026-10-01
end: 2026-10-28
"""
"""A corpus file for studies whose documents a test publishes itself."""


def _turn(minutes: bool, vllm: bool) -> int:
    return 1 if not minutes else 2 if vllm else 0


class _Platforms(LoadFileScheduling):
    """A process takes a file of tests at a time, and one takes all files that start whole platforms.

    Several of these at once on two cores run into each other's limits.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "platforms" if _starts_a_platform(file) else file


@cache
def _starts_a_platform(file: str) -> bool:
    return "pytest.mark.e2e" in (REPOSITORY / file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Platforms | None:
    return _Platforms(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need a real vLLM run when they are asked for (-m vllm): a server takes half a minute to start.

    Files that start whole platforms come first: one that begins last leaves the other processes without work. Those
    with a real vLLM come last, for `.ci/run` has both at once.
    """
    items.sort(key=lambda item: _turn(*(item.get_closest_marker(name) is not None for name in ("e2e", "vllm"))))
    python = Path(os.environ.get("PALIMPSEST_VLLM_PYTHON") or REPOSITORY / ".venv-vllm-cpu" / "bin" / "python")
    why = None if python.exists() else f"needs vLLM ({python} is missing): make test-vllm"
    if "vllm" not in config.getoption("markexpr").split():
        why = "needs a real vLLM: make test-vllm"
    for item in items:
        if item.get_closest_marker("vllm"):
            if why:
                item.add_marker(pytest.mark.skip(reason=why))
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(900))  # the first of a session waits for the server


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` has filled for the first of this run's processes that asked; tests work on copies."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(f".{os.getpid()}")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def parsed_dbt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where dbt's parsed project is kept for the run's processes together: parsing it is most of a small build."""
    return made_once(tmp_path_factory, "dbt", lambda folder: None)


@pytest.fixture
def state(tmp_path: Path, parsed_dbt: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "dbt").symlink_to(parsed_dbt)
    monkeypatch.setenv("PALIMPSEST_STATE", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "PALIMPSEST_CATALOG"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def lake(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """An empty lake, which PALIMPSEST_LAKE names."""
    monkeypatch.setenv("PALIMPSEST_LAKE", str(tmp_path / "lake"))
    return Lake.from_env()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test data beside the checkout (never committed)."""
    folder = Path(os.environ.get("PALIMPSEST_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"shared test data is absent ({folder}); set PALIMPSEST_SHARED to its folder")
    return folder
