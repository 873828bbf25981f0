"""A keeper's life as others see it: begun, waited for, and ended with everything it started."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

from palimpsest.config import ConfigError
from palimpsest.lake import REPOSITORY
from palimpsest.serve import leftovers
from palimpsest.serve.folder import Folder, Spec, deciding, prune

LOG_S = 10.0
SWEEP_S = 75.0  # a watchdog is through in a second, or says after a minute that it cannot be
log = logging.getLogger(__name__)


def begin(folder: Folder, spec: Spec) -> None:
    """A keeper for the folder, once the one before and everything of it is gone."""
    prune()
    lock = folder.hold(wait_s=spec.shutdown_s + SWEEP_S)
    if lock is None:
        raise ConnectionError(f"the server before this one does not end; see {folder.path}/keeper.log")
    try:
        for killed in leftovers.sweep(spec.id):
            log.warning("killed %s, left by a server before", killed)
        folder.write_spec(spec)
        folder.write_status({"ports": folder.ports()})  # clients know them
    finally:
        os.close(lock)
    with (folder.path / "keeper.log").open("ab") as output:
        subprocess.run(
            [sys.executable, "-m", "palimpsest.serve.keeper", str(folder.path)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY / "plugins"), str(REPOSITORY)])},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=True,
        )
    until = time.monotonic() + 60
    while "keeper" not in folder.status():
        if time.monotonic() > until:
            raise ConnectionError(f"the keeper of a model server did not start; see {folder.path}/keeper.log")
        time.sleep(0.05)


def await_ready(folder: Folder, user: str, within_s: float) -> None:
    """Returns once every replica is ready; where that cannot be, raises, and the user has left the server."""
    started = said = time.monotonic()
    while True:
        folder.touch(user)
        alive, now = folder.keeper() is not None, folder.status()
        states = [replica["state"] for replica in now["replicas"]] if alive else []
        if "ready" in states and set(states) <= {"ready", "failed"}:  # one may give up once all have been running
            for replica in now["replicas"]:
                if replica["state"] == "failed":
                    log.warning("server %s goes on without replica %s: %s", user, replica["replica"], replica["error"])
            return
        waited = time.monotonic() - started
        late = waited > within_s
        failed = now.get("state") == "failed"  # none yet where another study has just begun it anew
        if failed or late or not alive:
            leave(folder, user)
            if failed:
                folder.fail(user)
                raise (ConfigError if now["final"] else ConnectionError)(f"server {user}: {now['error']}")
            why = f"was not ready within {within_s:g} s ('ready_within_s')" if late else "was stopped while it started"
            raise ConnectionError(f"server {user} {why}; the end of {folder.log(0)}:\n{folder.tail(0)}")
        if time.monotonic() - said > LOG_S:
            said = time.monotonic()
            last = folder.tail(0, 1).removeprefix("  |")
            log.info("server %s: %s for %.0f s;%s", user, ", ".join(states), waited, last)
        time.sleep(0.2)


def leave(folder: Folder, user: str) -> list[str]:
    """The study no longer uses the server, which ends if nobody else does; says what was done."""
    with deciding():
        folder.leave(user)
        if others := folder.users(within_s=folder.spec().idle_s):
            return [f"{user}: goes on for {', '.join(others)}"]
        running = folder.keeper() is not None
        killed = [f"{user}: killed {process}" for process in end(folder)]
    return ([f"{user}: stopped"] if running else []) + killed


def end(folder: Folder) -> list[str]:
    """No keeper, no watchdog and no process of the server is left after this; returns whom it had to kill.

    Only inside `deciding`, or another study could begin to use the server meanwhile.
    """
    keeper, patience = folder.keeper(), folder.spec().shutdown_s + SWEEP_S
    if keeper:
        os.kill(keeper, signal.SIGTERM)
    lock = folder.hold(patience)
    if lock is None and keeper and folder.keeper() == keeper:
        os.kill(keeper, signal.SIGKILL)
        lock = folder.hold(SWEEP_S)
    try:
        return leftovers.sweep(folder.id)
    finally:
        if lock is not None:
            os.close(lock)
