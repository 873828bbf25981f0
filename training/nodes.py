"""One run over several machines: where they meet, how they divide its processes, and what the others run.

The machine that starts the run (Airflow's worker, or ``python -m training train``) is number 0; each other one runs
``python -m training join NUMBER`` and takes part in whatever is started. All have the same code, settings and lake.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from palimpsest.config import ConfigError
from palimpsest.lake import REPOSITORY

WITHIN_SECONDS = 600
"""For all machines to come; one that was just cut off needs a while to notice."""
POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Nodes:
    count: int = 1
    host: str = ""
    port: int = 0

    @classmethod
    def from_env(cls) -> Nodes:
        """As PALIMPSEST_NODES and PALIMPSEST_RENDEZVOUS say; `ConfigError` names the one that is wrong."""
        said = os.environ.get("PALIMPSEST_NODES") or "1"
        if not said.isdecimal() or int(said) < 1:
            raise ConfigError(f"PALIMPSEST_NODES is '{said}'; set it to the number of machines of a run, 1 or more")
        if int(said) == 1:
            return cls()
        place = os.environ.get("PALIMPSEST_RENDEZVOUS") or ""
        host, _, port = place.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(
                f"PALIMPSEST_NODES is {said}, and PALIMPSEST_RENDEZVOUS '{place}'; set it on all of them to HOST:PORT "
                "of the one that starts the runs"
            )
        return cls(int(said), host.strip("[]"), int(port))

    def torchrun(self, node: int, processes: int) -> list[str]:
        """The command up to what each process runs; ``processes`` are those of this machine."""
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        if self.count == 1:
            return [*command, "--standalone"]
        # the static rendezvous: machine 0 hosts it and has the first process, which writes the run
        meeting = ["--nnodes", str(self.count), "--node-rank", str(node)]
        meeting += ["--master-addr", self.host, "--master-port", str(self.port)]
        return [*command, *meeting, "--rdzv-conf", f"timeout={WITHIN_SECONDS}"]

    def share(self, processes: int) -> int:
        """Processes of each machine. Raises `ConfigError` where they do not divide evenly."""
        if processes % self.count:
            raise ConfigError(
                f"training.processes of {processes} cannot be divided over {self.count} machines (PALIMPSEST_NODES); "
                f"set it to a multiple of {self.count}"
            )
        return processes // self.count


def environment(threads: int) -> dict[str, str]:
    """Of torchrun and its workers: this checkout's modules, and as many OpenMP threads unless that is set."""
    paths = [str(REPOSITORY / "plugins"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    found.setdefault("OMP_NUM_THREADS", str(threads))  # or torchrun warns and sets it
    return found


def join(number: int, processes: int | None = None, *, once: bool = False) -> int:
    """Takes part in one run after another as machine ``number``, with as many processes (default: one per GPU, or 1).

    Ends after one with ``once``: 0 if that run went well. Raises `ConfigError` for settings that name no such machine.
    """
    nodes = Nodes.from_env()
    if not 0 < number < nodes.count:
        raise ConfigError(
            f"machine {number} of {nodes.count} (PALIMPSEST_NODES): the others are 1 to {nodes.count - 1}, and 0 is "
            "the one that starts the runs"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that torchrun is stopped too
    processes = processes or _gpus() or 1
    while True:
        _wait(nodes)
        log.info("machine %d joins a run with %d process(es)", number, processes)
        command = [*nodes.torchrun(number, processes), "-m", "training.launch"]
        status = subprocess.run(command, env=environment(1)).returncode
        log.info("the run has ended%s", "" if status == 0 else f", for this machine with status {status}")
        if once:
            return status
        time.sleep(POLL_SECONDS if status == 0 else 5 * POLL_SECONDS)  # until machine 0 has noticed, too


def _wait(nodes: Nodes) -> None:
    """Until a run is started: then machine 0 listens."""
    log.info("waiting for a run at %s:%d", nodes.host, nodes.port)
    while True:
        try:
            socket.create_connection((nodes.host, nodes.port), timeout=10).close()
            return
        except OSError:
            time.sleep(POLL_SECONDS)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
