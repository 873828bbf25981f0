"""Processes that are stopped whatever happens, and a lock so that two stacks never share one state folder.

Each process leads a session of its own. Airflow puts every task into its own process group, so stopping a group would
leave tasks behind; all of them keep the session, which is therefore what is stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from palimpsest_airflow.local.settings import Refused


class Processes:
    """What was started, by name, kept in a file so that another command can stop it."""

    def __init__(self, file: Path, logs: Path) -> None:
        self.file, self.logs = file, logs
        self.started: dict[str, subprocess.Popen] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> subprocess.Popen:
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started[name] = process
        known = {**self.recorded(), name: {"pid": process.pid, "born": _born(process.pid)}}
        self.file.write_text(json.dumps(known))
        return process

    def recorded(self) -> dict[str, dict]:
        try:
            return json.loads(self.file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def alive(self) -> dict[str, int]:
        """Name and process id of every recorded process that still runs (a reused id has another birth time)."""
        return {name: p["pid"] for name, p in self.recorded().items() if p["born"] and _born(p["pid"]) == p["born"]}

    def stop(self, grace: float = 4.0) -> None:
        """End every recorded session: asked first, killed after ``grace`` seconds."""
        sessions = {p["pid"] for p in self.recorded().values()} | {p.pid for p in self.started.values()}
        oldest = min((p["born"] for p in self.recorded().values() if p["born"]), default=0.0)
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            for pid in _members(sessions, oldest):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + patience
            while _members(sessions, oldest) and time.monotonic() < deadline:
                for process in self.started.values():
                    process.poll()
                time.sleep(0.05)
        self.started.clear()
        self.file.unlink(missing_ok=True)

    def log_tail(self, name: str, lines: int = 15) -> str:
        file = self.logs / f"{name}.log"
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""


def _born(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _members(sessions: set[int], oldest: float) -> list[int]:
    """Living processes of these sessions; none born before the stack was, so a reused session id is left alone."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) in sessions and _born(pid) >= oldest > 0:
                found.append(pid)
    return found


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold the lock file; a second holder is refused with the first one's process id."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise Refused(
                f"process {stream.read().strip() or '?'} is working in {file.parent} already: wait for it, or set "
                "PALIMPSEST_STATE and PALIMPSEST_LAKE to other folders (and PALIMPSEST_AIRFLOW_PORT to another port)"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def need_port(port: int, setting: str) -> None:
    """Refuse now, by name, rather than let a server fail in its log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Refused(f"port {port} is taken ({error.strerror}): set {setting} to a free one") from None
