"""The process that keeps a server running: ``python -m palimpsest.serve.keeper FOLDER``, detached by itself.

It ends everything it started when it is asked to (SIGTERM), when nobody uses the server any more, when the server
cannot be made ready, and, through its watchdog, when it is killed itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from palimpsest.serve import leftovers
from palimpsest.serve.folder import Folder, machine_key
from palimpsest.serve.kernel import adopt_orphans, reap
from palimpsest.serve.replica import GaveUp, Replica

TICK_S = 0.5


class Keeper:
    def __init__(self, folder: Folder) -> None:
        self.folder, self.spec = folder, folder.spec()
        self.state, self.error, self.final, self.stopping = "starting", "", False, False
        self.began, self.pipe, self.watchdog = time.monotonic(), -1, 0
        self.watch()
        key = machine_key()
        numbers = range(len(self.spec.replicas))
        self.replicas = [Replica(folder, self.spec, number, key, self.changed) for number in numbers]
        for replica, port in zip(self.replicas, folder.ports(), strict=False):
            replica.port = port

    def watch(self) -> None:
        """Fork the watchdog, which sweeps once this process is gone: it then reads the end of the pipe."""
        if self.pipe >= 0:
            os.close(self.pipe)
        reading, self.pipe = os.pipe()
        self.watchdog = os.fork()
        if self.watchdog:
            os.close(reading)
            return
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.close(self.pipe)
            os.read(reading, 1)
            for killed in leftovers.sweep(self.spec.id):
                print(f"the keeper is gone: killed {killed}", flush=True)
        except BaseException:  # nobody above may run on in this copy of the keeper
            traceback.print_exc()
        finally:
            os._exit(0)

    async def run(self) -> None:
        self.task = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.end)
        self.changed()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look_after())
                for replica in self.replicas:
                    tasks.create_task(self._keep(replica))
        except* GaveUp as errors:
            self.state, self.error = "failed", str(errors.exceptions[0])
            self.final = errors.exceptions[0].final
        except* asyncio.CancelledError:
            self.state = "stopped"
        finally:
            await self._stop()

    def end(self) -> None:
        if not self.stopping:  # a second call must not interrupt the stopping
            self.stopping = True
            self.task.cancel()

    async def _keep(self, replica: Replica) -> None:
        if replica is not self.replicas[0]:  # the first one fills the caches of compiled code and kernels
            await self.replicas[0].was_ready.wait()
        try:
            await replica.keep()
        except GaveUp:
            # One broken GPU does not stop the others once all have been running.
            if not all(r.was_ready.is_set() for r in self.replicas) or all(r.state == "failed" for r in self.replicas):
                raise

    async def _look_after(self) -> None:
        while True:
            ours = {replica.process.pid for replica in self.replicas if replica.process} | {self.watchdog}
            reap(ours)
            if os.waitpid(self.watchdog, os.WNOHANG)[0]:
                print("the watchdog is gone: another one", flush=True)
                self.watch()
            for replica in self.replicas:
                replica.rotate()
            if time.monotonic() - self.began > self.spec.idle_s and not self.folder.users(self.spec.idle_s):
                print(f"nobody has used the server for {self.spec.idle_s:g} s", flush=True)
                self.end()
            await asyncio.sleep(TICK_S)

    async def _stop(self) -> None:
        self.stopping = True
        ended, self.state = self.state, "stopping"
        self.changed()
        for replica in self.replicas:
            replica.ask_to_stop()
        until = time.monotonic() + self.spec.shutdown_s + 10  # its own deadline first, then ours
        while any(r.process and r.process.poll() is None for r in self.replicas) and time.monotonic() < until:
            await asyncio.sleep(0.1)
        for killed in leftovers.sweep(self.spec.id):
            print(f"stopping: killed {killed}", flush=True)
        self.state = ended
        self.changed()

    def changed(self) -> None:
        replicas = [replica.as_dict() for replica in self.replicas]
        if self.state in ("starting", "ready"):
            self.state = "ready" if any(r["state"] == "ready" for r in replicas) else "starting"
        if self.state in ("failed", "stopped"):
            replicas = [replica | {"state": self.state, "pid": None} for replica in replicas]
        keeper = {"pid": os.getpid(), "born": leftovers.born(os.getpid())}
        own = {"state": self.state, "error": self.error, "final": self.final, "keeper": keeper}
        self.folder.write_status(own | {"replicas": replicas})


def main() -> int:
    folder = Folder(Path(sys.argv[1]))
    if os.fork():  # the caller waits for this process only; its child belongs to nobody
        return 0
    os.setsid()
    lock = folder.hold(wait_s=0)
    if lock is None:
        print("another keeper has the folder", flush=True)
        return 1
    adopt_orphans()
    print(f"keeper {os.getpid()} of {folder.path}", flush=True)
    asyncio.run(Keeper(folder).run())
    print("keeper ends", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
