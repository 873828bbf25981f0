"""One server process: started, made sure of, watched, and started again when it died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable

import httpx

from palimpsest.serve import leftovers
from palimpsest.serve.folder import STARTED, Folder, Spec
from palimpsest.serve.kernel import die_with_parent
from palimpsest.serve.ready import listed

TRIES = 3  # starts in a row that never became ready
LOOK_S = 1.0
SILENT_S = 120.0  # a living server that answers /health for so long not at all hangs
LOG_BYTES = 20_000_000
USAGE = 2  # exit status of a command line that is not understood: trying again cannot help
OURS = ("AIRFLOW", "_AIRFLOW", "PALIMPSEST_", "MLFLOW_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Begin the names of variables that are none of a server's business: other programs' paths and passwords."""


class GaveUp(Exception):
    """The server never became ready; says why, with the end of its log."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final
        """Starting it again, now or later, cannot help."""


class Replica:
    def __init__(self, folder: Folder, spec: Spec, number: int, key: str, changed: Callable[[], None]) -> None:
        self.folder, self.spec, self.number, self.key, self.changed = folder, spec, number, key, changed
        self.process: subprocess.Popen | None = None
        self.state, self.since, self.starts, self.port, self.error = "waiting", time.time(), 0, 0, ""
        self.was_ready = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def as_dict(self) -> dict:
        names = ("state", "since", "starts", "error")
        pid = self.process.pid if self.process else None
        return {"replica": self.number, "pid": pid, "url": self.url if self.port else None} | {
            name: getattr(self, name) for name in names
        }

    async def keep(self) -> None:
        """Runs until cancelled; raises `GaveUp` after `TRIES` starts in a row that never became ready."""
        failed = 0
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            while True:
                self._start()
                trouble = await self._until_ready(client)
                if trouble is None:
                    failed = 0
                    self.was_ready.set()
                    self._becomes("ready")
                    trouble = await self._until_dead(client)
                else:
                    failed += 1
                status = self.process.poll()
                self.error = f"{trouble}; the end of its log, {self.folder.log(self.number)}:\n" + (
                    self.folder.tail(self.number) or "  (empty)"
                )
                self._sweep()
                final = bool(failed) and status == USAGE
                if failed >= TRIES or final:
                    self._becomes("failed")
                    raise GaveUp(self.error, final=final)
                await asyncio.sleep(2**failed - 1)

    def ask_to_stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def rotate(self) -> None:
        """Keep the log small: what is in it moves aside. The server goes on appending to the same file."""
        log = self.folder.log(self.number)
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > LOG_BYTES:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                os.truncate(log, 0)

    def _start(self) -> None:
        self._sweep()
        self.port = _free_port(self.port)
        command = [part.replace("{port}", str(self.port)) for part in self.spec.command]
        own = self.spec.environment | self.spec.replicas[self.number] | {"VLLM_API_KEY": self.key}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        environment = inherited | own | leftovers.marked(self.spec.id, self.number)
        with self.folder.log(self.number).open("ab") as log:
            log.write(f"{STARTED} {time.strftime('%Y-%m-%d %H:%M:%S')}\n{shlex.join(command)}\n".encode())
            log.flush()
            try:
                self.process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            except OSError as error:
                raise GaveUp(f"{command[0]} cannot be started: {error}", final=True) from None
        self.starts += 1
        self._becomes("restarting" if self.was_ready.is_set() else "starting")

    async def _until_ready(self, client: httpx.AsyncClient) -> str | None:
        """None once /health and /v1/models say so; else what is wrong."""
        until = time.monotonic() + self.spec.ready_within_s
        headers, missing = {"Authorization": f"Bearer {self.key}"}, ""
        while time.monotonic() < until:
            await asyncio.sleep(LOOK_S / 4)
            if (status := self.process.poll()) is not None:
                return f"the server ended with status {status} before it was ready"
            with contextlib.suppress(httpx.HTTPError):
                health = await client.get(f"{self.url}/health")
                missing = listed(await client.get(f"{self.url}/v1/models", headers=headers), self.spec.model)
                if health.is_success and not missing:
                    return None
        said = f" ({missing})" if missing else ""
        return f"the server was not ready within {self.spec.ready_within_s:g} s ('ready_within_s'){said}"

    async def _until_dead(self, client: httpx.AsyncClient) -> str:
        answered = time.monotonic()
        while time.monotonic() - answered < SILENT_S:
            await asyncio.sleep(LOOK_S)
            if (status := self.process.poll()) is not None:
                return f"the server died (status {status})"
            try:
                health = await client.get(f"{self.url}/health")
            except httpx.HTTPError:
                continue
            if health.status_code == 503:
                return "its engine died (/health answers 503)"
            answered = time.monotonic()
        return f"the server has not answered /health for {SILENT_S:g} s"

    def _sweep(self) -> None:
        if self.process:
            self.process.poll()
        for killed in leftovers.sweep(self.spec.id, self.number):
            print(f"replica {self.number}: killed {killed}", flush=True)
        if self.process:
            self.process.wait()

    def _becomes(self, state: str) -> None:
        self.state, self.since = state, time.time()
        if state == "ready":
            self.error = ""
        print(f"replica {self.number}: {state} {self.url} {self.error.partition(';')[0]}", flush=True)
        self.changed()


def _free_port(wanted: int) -> int:
    """``wanted`` if it is free (clients know it), else another one."""
    for port in (wanted, 0) if wanted else (0,):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise GaveUp("no free port on 127.0.0.1")
