"""Airflow and a model server as one machine runs them, someone who kills their processes, and someone who looks after
them: systemd restarts the scheduler, a person clears failed tasks.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from palimpsest import serve
from palimpsest.serve import folder as folders
from palimpsest.serve import leftovers
from palimpsest_airflow.local import databases, stack
from palimpsest_airflow.local.api import Api
from palimpsest_airflow.local.pools import ensure_pools
from palimpsest_airflow.local.processes import Processes
from palimpsest_airflow.local.settings import Settings

REPOSITORY = Path(__file__).parents[2]
IMPATIENT = {
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}
"""Airflow notices a dead scheduler after 15 s and a dead task after 20, where it would take half a minute and five.
Below that a scheduler that waited for the machine takes itself for dead, and ends a task that nobody had killed."""
ENDED = ("failed", "up_for_retry", "upstream_failed")
GENERATING = ("plan", "approve", "serve", "generate", "stop_serving", "collect")
"""Tasks that are cleared when they have failed; what comes after them is not the matter."""


@dataclass
class Platform:
    """The scheduler (LocalExecutor), the API server and the Dag processor, and the run that is watched."""

    settings: Settings
    dag: str
    running: Processes = field(init=False)
    api: Api = field(init=False)
    run: str = ""
    cleared: list[str] = field(default_factory=list)
    schedulers: list[int] = field(default_factory=list)
    """All that were started, each the head of a session: one that is killed leaves its idle workers in it."""

    def start(self) -> None:
        self.running = stack.processes(self.settings)
        environment = self.settings.environment()
        databases.make(self.settings, environment)
        for name in ("api-server", "dag-processor"):
            self.running.start(name, stack.COMPONENTS[name], environment, REPOSITORY)
        self.start_scheduler()
        self.api = Api(self.settings)
        stack.wait(self.running, "api-server", self.api.ready)
        self.api.login()
        ensure_pools(self.api)

    def start_scheduler(self) -> None:
        command = [*stack.AIRFLOW, "scheduler", "--skip-serve-logs"]
        self.running.start("scheduler", command, self.settings.environment(), REPOSITORY)
        self.schedulers.append(self.running.started["scheduler"].pid)

    def stop(self) -> None:
        self.running.stop()
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) in self.schedulers:
                    os.kill(pid, signal.SIGKILL)

    def tasks(self) -> list[dict[str, Any]]:
        return self.api.get(f"dags/{self.dag}/dagRuns/{self.run}/taskInstances", limit=1000)["task_instances"]

    def look_after(self) -> list[dict[str, Any]]:
        """What systemd and a person do: a scheduler that ended is started, failed tasks are cleared. The tasks now."""
        if self.running.started["scheduler"].poll() is not None:
            self.start_scheduler()
        found = self.tasks()
        failed = [
            [task["task_id"], task["map_index"]] if task["map_index"] >= 0 else task["task_id"]
            for task in found
            if task["state"] in ENDED and task["task_id"] in GENERATING
        ]
        if failed:
            body = {"dry_run": False, "dag_run_id": self.run, "task_ids": failed, "reset_dag_runs": True}
            self.api.post(f"dags/{self.dag}/clearTaskInstances", body | {"only_failed": False})
            self.cleared += [str(task) for task in failed]
        return found

    def logs(self, name: str, lines: int = 15) -> str:
        return self.running.log_tail(name, lines)


class Victims:
    """The processes that can be killed now, by the name of their part."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.of: dict[str, Callable[[], list[psutil.Process]]] = {
            "task": self.tasks,
            "task supervisor": lambda: [process.parent() for process in self.tasks()],
            "scheduler": self.scheduler,
            "scheduler and its tasks": self.scheduler,
            "API server": self.api_servers,
            "EngineCore": lambda: self.of_server("VLLM::EngineCore"),
            "keeper": lambda: [process for one in folders.folders() if (process := _process(one.keeper()))],
        }

    def kill(self, parts: Sequence[str]) -> tuple[str, int] | None:
        """``kill -9`` of the first of these parts that has a process now: which, and its id; None if none has one."""
        for part in dict.fromkeys(parts):
            for victim in self.of[part]():
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.send_signal(signal.SIGKILL)
                    if part == "scheduler and its tasks":  # systemd ends the whole control group of a unit that died
                        for pid in psutil.pids():
                            with contextlib.suppress(ProcessLookupError):
                                if os.getsid(pid) == victim.pid:
                                    os.kill(pid, signal.SIGKILL)
                    return part, victim.pid
        return None

    def tasks(self) -> list[psutil.Process]:
        """Processes at work on a shard."""
        running = {f"airflow worker -- {task['id']}" for task in self.platform.tasks() if _generates(task)}
        return [process for process in psutil.process_iter() if _title(process) in running]

    def scheduler(self) -> list[psutil.Process]:
        started = self.platform.running.started["scheduler"]
        return [psutil.Process(started.pid)] if started.poll() is None else []

    def api_servers(self) -> list[psutil.Process]:
        ids = [replica["pid"] for one in serve.status() for replica in one.replicas if replica["state"] == "ready"]
        return [process for pid in ids if (process := _process(pid))]

    def of_server(self, title: str) -> list[psutil.Process]:
        living = [process for one in folders.folders() for process in leftovers.living(one.id)]
        return [process for process in living if _title(process) == title and self.api_servers()]


def _generates(task: dict[str, Any]) -> bool:
    return task["task_id"] == "generate" and task["state"] == "running"


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


def _process(pid: int | None) -> psutil.Process | None:
    """The process, if it still runs; a zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid) if pid else None
        return process if process and leftovers.runs(process) else None
    return None
