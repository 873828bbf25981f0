"""Every process of a server, found by the marker in its environment, and ended for sure.

``kill -9`` of vLLM's API server leaves its ``VLLM::EngineCore`` and ``VLLM::Worker`` running and the GPU taken (seen on
0.32). They are found here whoever their parent is now: the marker PALIMPSEST_SERVER is inherited by everything a
server starts. vLLM renames its processes, which on Linux overwrites the environment others see; SPT_NOENV in
`MARKED` keeps it readable.
"""

from __future__ import annotations

import contextlib
import signal
import time

import psutil

MARKER, REPLICA = "PALIMPSEST_SERVER", "PALIMPSEST_SERVER_REPLICA"


def marked(server: str, replica: int) -> dict[str, str]:
    """What a replica's processes have in their environment."""
    return {MARKER: server, REPLICA: str(replica), "SPT_NOENV": "1"}


def living(server: str, replica: int | None = None) -> list[psutil.Process]:
    """The server's processes that still run (of one replica, or of all), their descendants included."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            own = process.environ()
            if own.get(MARKER) == server and (replica is None or own.get(REPLICA) == str(replica)):
                found |= {child.pid: child for child in [process, *process.children(recursive=True)]}
    return [process for process in found.values() if runs(process)]


def sweep(server: str, replica: int | None = None, *, grace: float = 0.0) -> list[str]:
    """End what `living` finds: asked first and given ``grace`` seconds, then killed; returns who had to be killed.

    Raises TimeoutError if a process outlives SIGKILL by a minute (it hangs in a driver).
    """
    if grace:
        _signal(living(server, replica), signal.SIGTERM)
        until = time.monotonic() + grace
        while living(server, replica) and time.monotonic() < until:
            time.sleep(0.1)
    killed: dict[int, str] = {}
    until = time.monotonic() + 60
    while left := living(server, replica):
        killed |= {process.pid: f"{_title(process)} (process {process.pid})" for process in left}
        if time.monotonic() > until:
            raise TimeoutError(
                f"these processes of a model server outlive SIGKILL: {', '.join(killed.values())}. They hang in a "
                "driver and hold its GPU; look at dmesg and nvidia-smi, the machine may need a restart"
            )
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)
    return list(killed.values())


def born(pid: int) -> float:
    """When the process started, which tells it from a later one of the same number; 0 if it is gone."""
    try:
        process = psutil.Process(pid)
        return process.create_time() if runs(process) else 0.0
    except psutil.Error:
        return 0.0


def runs(process: psutil.Process) -> bool:
    """False for a zombie too: it holds nothing any more."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        line = process.cmdline()
        return " ".join(line)[:60].strip() if line else process.name()
    return "?"
