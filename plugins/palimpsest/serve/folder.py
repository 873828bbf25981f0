"""A server's folder below the state folder: what it is to be, how it is, who uses it, what it says.

``servers/<id>/`` holds spec.json, status.json, keeper.log, server-<replica>.log (and .1, the one before), ``users/``
with one file per study and server name whose time is its last use, ``failed/`` with one for each that could not have it
started, and ``lock``, held by the keeper while it lives and by its watchdog until everything is swept.
``servers/api-key`` is the key of all servers of this state folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from palimpsest.serve.leftovers import born
from palimpsest.state import state_dir

ERROR = re.compile(r"\b\w*(Error|Exception): ")
STARTED = "---- started by the keeper"
"""Begins each start in a log."""
KEPT_S = 7 * 86_400


@dataclass(frozen=True)
class Spec:
    """What a keeper runs: one command per replica."""

    id: str
    model: str
    """What /v1/models must list."""
    command: list[str]
    """Of every replica; {port} is filled in."""
    environment: dict[str, str]
    """Added to the keeper's own."""
    replicas: list[dict[str, str]]
    """Added for each replica: its GPUs."""
    ready_within_s: float
    shutdown_s: float
    """How long a server may take to finish what it answers when it is asked to stop."""
    idle_s: float
    """Stopped when nobody has used it for so long."""


@dataclass(frozen=True)
class Folder:
    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    def write_spec(self, spec: Spec) -> None:
        _write(self.path / "spec.json", json.dumps(asdict(spec), indent=1))

    def spec(self) -> Spec | None:
        found = _read(self.path / "spec.json")
        return Spec(**found) if found else None

    def write_status(self, status: dict) -> None:
        _write(self.path / "status.json", json.dumps(status, indent=1))

    def status(self) -> dict:
        """As the keeper wrote it last; empty if it has not yet."""
        return _read(self.path / "status.json")

    def ports(self) -> list[int]:
        """Where the replicas were last seen."""
        now = self.status()
        found = [urlsplit(replica["url"] or "").port or 0 for replica in now.get("replicas", [])]
        return found or now.get("ports", [])

    def keeper(self) -> int | None:
        """Process id of the living keeper."""
        found = self.status().get("keeper") or {}
        return found["pid"] if found and born(found["pid"]) == found["born"] else None

    def log(self, replica: int) -> Path:
        return self.path / f"server-{replica}.log"

    def tail(self, replica: int, lines: int = 25) -> str:
        """The last lines of the replica's log, none from before its last start; before them its first error.

        vLLM's last words are often only that its engine died; why stands where the engine said it.
        """
        with contextlib.suppress(FileNotFoundError), self.log(replica).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1_000_000))
            found = file.read().decode(errors="replace").rpartition(STARTED)[2].splitlines()[1:]
            cause = next((line for line in found[:-lines] if ERROR.search(line)), None) if lines > 1 else None
            return "\n".join(f"  | {line[:500]}" for line in ([cause, "…"] if cause else []) + found[-lines:])
        return ""

    def use(self, user: str) -> None:
        (self.path / "users").mkdir(parents=True, exist_ok=True)
        (self.path / "users" / user).touch()
        (self.path / "failed" / user).unlink(missing_ok=True)

    def touch(self, user: str) -> None:
        """The user, if it still is one, has used the server just now."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path / "users" / user)

    def leave(self, user: str) -> None:
        for kind in ("users", "failed"):
            (self.path / kind / user).unlink(missing_ok=True)

    def fail(self, user: str) -> None:
        """The user has left because the server could not be started; known until it asks again, or stops it."""
        (self.path / "failed").mkdir(exist_ok=True)
        (self.path / "failed" / user).touch()

    def failed(self) -> list[str]:
        """'<study>.<server>' of each user that left so."""
        return sorted(file.name for file in (self.path / "failed").glob("*"))

    def users(self, within_s: float | None = None) -> list[str]:
        """'<study>.<server>' of each user, of those only that used it within so many seconds."""
        found = []
        for file in sorted((self.path / "users").glob("*")):
            with contextlib.suppress(FileNotFoundError):
                if within_s is None or time.time() - file.stat().st_mtime <= within_s:
                    found.append(file.name)
        return found

    def hold(self, wait_s: float) -> int | None:
        """The folder's lock, a file handle; None if another keeper, or its watchdog, keeps it for longer."""
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() >= until:
                    os.close(handle)
                    return None
            time.sleep(0.1)


def base() -> Path:
    folder = state_dir() / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def folders() -> list[Folder]:
    return [Folder(file.parent) for file in sorted((state_dir() / "servers").glob("*/status.json"))]


def prune() -> None:
    """Remove what servers left that nobody has used for a week: their logs."""
    for folder in folders():
        if time.time() - (folder.path / "status.json").stat().st_mtime > KEPT_S and not folder.users():
            lock = folder.hold(wait_s=0)
            if lock is not None:
                shutil.rmtree(folder.path)
                os.close(lock)


def used_by(user: str) -> list[Folder]:
    return [folder for folder in folders() if user in folder.users()]


def mark_stopped(study: str | None) -> None:
    """The servers of the study (None: of all) are being stopped now."""
    (base() / "stopped").mkdir(exist_ok=True)
    (base() / "stopped" / (study or "all")).touch()


def stopped_since(study: str, moment: float) -> bool:
    """Whether the study's servers have been stopped after this Unix time."""
    for name in (study, "all"):
        with contextlib.suppress(FileNotFoundError):
            if (base() / "stopped" / name).stat().st_mtime > moment:
                return True
    return False


@contextlib.contextmanager
def deciding() -> Iterator[None]:
    """One process at a time decides what is started, and on which GPUs."""
    with (base() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def machine_key() -> str:
    """The API key of this state folder's servers: made once, readable by its owner only."""
    file = base() / "api-key"
    if not file.exists():
        partial = file.with_name(f".api-key.{secrets.token_hex(4)}")
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(partial, file)
        partial.unlink()
    return file.read_text()


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _write(file: Path, content: str) -> None:
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    partial.write_text(content)
    os.replace(partial, file)
