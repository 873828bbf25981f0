# ruff: noqa: F811 (fixtures of another module)
"""A run over two machines: two launchers on the loopback address, one process each, over gloo."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import deque
from contextlib import contextmanager

import psutil
import pytest

from palimpsest.config import ConfigError
from palimpsest.lake import Lake, NotPublished
from tests.training.test_launch import RUN, curve, environment, odd, on_cpu, settings, train  # noqa: F401
from training import nodes, workers
from training.nodes import Nodes


@pytest.fixture
def place(monkeypatch) -> str:
    """Where two machines meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("PALIMPSEST_NODES", "2")
    monkeypatch.setenv("PALIMPSEST_RENDEZVOUS", found)
    return found


@contextmanager
def other_machine(log):
    """Number 1, for as long as it is needed."""
    command = [sys.executable, "-m", "training", "join", "1", "--processes", "1"]
    with log.open("w") as out:
        child = subprocess.Popen(command, env=environment(), stdout=out, stderr=out)
        family = [psutil.Process(child.pid)]
        try:
            yield family[0]
        finally:
            family += family[0].children(recursive=True)
            child.terminate()
            child.wait(30)
            assert psutil.wait_procs(family, timeout=30)[1] == []


def test_two_machines_train_what_two_processes_of_one_do(odd, tmp_path, place, monkeypatch):
    """Equal losses at every step and equal weights, bit for bit: each process had the same windows at each step."""
    study = settings(processes=2)
    with other_machine(tmp_path / "log"):
        both = train(odd, Lake(tmp_path / "two"), study)
    assert "joins a run" in (tmp_path / "log").read_text()
    monkeypatch.setenv("PALIMPSEST_NODES", "1")
    one = train(odd, Lake(tmp_path / "one"), study)
    assert curve(both) == curve(one)
    weights = [run.file("model/model.safetensors").read_bytes() for run in (both, one)]
    assert weights[0] == weights[1]
    about = [json.loads(run.file("evaluation.json").read_text()) for run in (both, one)]
    assert about[0]["exposures"] == about[1]["exposures"]
    assert [found["processes"] for found in about] == [2, 2]


def test_a_machine_that_does_not_come_is_told(odd, lake, place, monkeypatch):
    monkeypatch.setattr(nodes, "WITHIN_SECONDS", 1)
    said = rf"run {RUN}: only 1 of 2 machines came to {place} within 1 s; on each of the others run python -m"
    with pytest.raises(ConnectionError, match=said):
        train(odd, lake, settings(processes=2))
    with pytest.raises(NotPublished):
        lake.latest(f"studies/small/runs/{RUN}")


@pytest.mark.parametrize(
    ("count", "where", "said"),
    [
        ("two", "host:1", "PALIMPSEST_NODES is 'two'"),
        ("0", "host:1", "PALIMPSEST_NODES is '0'"),
        ("2", "", "PALIMPSEST_NODES is 2, and PALIMPSEST_RENDEZVOUS ''"),
        ("2", "host", "to HOST:PORT"),
        ("2", "host:99999", "to HOST:PORT"),
    ],
)
def test_settings_that_make_no_meeting_are_named(monkeypatch, count, where, said):
    monkeypatch.setenv("PALIMPSEST_NODES", count)
    monkeypatch.setenv("PALIMPSEST_RENDEZVOUS", where)
    with pytest.raises(ConfigError, match=said):
        Nodes.from_env()


def test_processes_are_divided_evenly_or_the_setting_is_named(monkeypatch, place):
    assert [Nodes(count).share(8) for count in (1, 2, 4)] == [8, 4, 2]
    with pytest.raises(ConfigError, match=r"training.processes of 9 cannot be divided over 2 machines"):
        Nodes.from_env().share(9)
    with pytest.raises(ConfigError, match=r"machine 2 of 2 .*: the others are 1 to 1, and 0 is the one that starts"):
        nodes.join(2)
    monkeypatch.delenv("PALIMPSEST_NODES")
    assert Nodes.from_env() == Nodes()


@pytest.mark.parametrize(
    ("count", "said", "kind", "told"),
    [
        (
            2,
            "RuntimeError: [gloo/transport/tcp/pair.cc:538] Connection closed by peer",
            ConnectionError,
            "2 machines was",
        ),
        (2, "DistBackendError: NCCL error: remote process exited", ConnectionError, "goes on from its checkpoint"),
        (1, "RuntimeError: [gloo/transport/tcp/pair.cc:538] Connection closed by peer", RuntimeError, "gloo"),
        (2, "KeyError: 'streams'", RuntimeError, "KeyError"),
    ],
)
def test_only_the_loss_of_another_machine_is_weather(count, said, kind, told):
    """What a worker says when its peer on another machine is gone, as gloo and NCCL put it."""
    work = workers.Work(f"run {RUN}", "none", {}, 1, less="it", again="it goes on from its checkpoint when tried again")
    error = work.failure(1, {"failed": ("Other", said)}, deque(), Nodes(count, "host", 1))
    assert type(error) is kind and told in str(error)
