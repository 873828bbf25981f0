"""The demo as its user starts it: a process of its own, on a lake, a state folder and ports of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from palimpsest.config import studies_dir
from palimpsest.lake import REPOSITORY, Lake
from palimpsest_airflow.local.api import Api
from palimpsest_airflow.local.settings import SCHEDULER_SLEEP, Settings
from tests.palimpsest_airflow.conftest import free_port


@dataclass
class Place:
    """Where one test's platform lives."""

    folder: Path
    environment: dict[str, str]

    @property
    def lake(self) -> Lake:
        return Lake(self.folder / "lake")

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def write_study(self, **gates: object) -> None:
        """The demo study, trained for seconds instead of minutes; keyword arguments are its gates."""
        content = yaml.safe_load((studies_dir() / "demo.yaml").read_text())
        for mix in content["mixes"].values():
            mix["epochs"] = 1
        content["training"]["model"] = {"layers": 1, "width": 32, "mlp": 64, "heads": 2}
        content["gates"] = {**content.get("gates", {}), **gates}
        file = Path(self.environment["PALIMPSEST_STUDIES"], "demo.yaml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(content))

    def demo(self) -> subprocess.CompletedProcess[str]:
        return self.command("demo")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "palimpsest_airflow", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=1200, check=False
        )

    def api(self) -> Api:
        """That of the running Airflow, logged in."""
        ports = (int(self.environment[f"PALIMPSEST_{name}_PORT"]) for name in ("AIRFLOW", "MLFLOW"))
        api = Api(Settings(self.state, str(self.folder / "lake"), *ports))
        api.login()
        return api

    def wait_for_backfill(self, dag_id: str, patience: float = 600.0) -> dict:
        """The Dag's backfill run, once it has ended."""
        api = self.api()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            runs = api.get(f"dags/{dag_id}/dagRuns", run_type="backfill")["dag_runs"]
            if runs and runs[0]["state"] in ("success", "failed"):
                return runs[0]
            time.sleep(1)
        raise AssertionError(f"no backfill run of {dag_id} ended within {patience:.0f} s: {runs}")

    def leftovers(self) -> list[str]:
        """Processes that still carry this test's state folder in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PALIMPSEST_STATE") == str(self.state) and process.pid != os.getpid():
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("platform")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PALIMPSEST_", "MLFLOW_", "AIRFLOW"))}
    environment = {
        **kept,
        "PYTHONPATH": f"{REPOSITORY / 'plugins'}{os.pathsep}{REPOSITORY}",
        "PALIMPSEST_LAKE": str(folder / "lake"),
        "PALIMPSEST_STATE": str(folder / "state"),
        "PALIMPSEST_STUDIES": str(folder / "studies"),
        "PALIMPSEST_AIRFLOW_PORT": str(free_port()),
        "PALIMPSEST_MLFLOW_PORT": str(free_port()),
        SCHEDULER_SLEEP: "0.3",  # as the demo has it: tasks are short
        "COLUMNS": "200",
    }
    return Place(folder, environment)


@pytest.fixture
def seconds():
    start = time.monotonic()
    return lambda: time.monotonic() - start
