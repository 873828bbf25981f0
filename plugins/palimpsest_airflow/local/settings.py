"""Where the local stack lives, which ports it takes, and the environment its processes get."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from palimpsest.lake import REPOSITORY
from palimpsest.machine import cores
from palimpsest.state import state_dir

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "SCARF_ANALYTICS": "false",
    "SCARF_NO_ANALYTICS": "true",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
}
WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""MLflow's server would start eight processes that wait for jobs on traces of agents, which nobody here asks for."""
SCHEDULER_SLEEP = "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"
"""In the environment it goes before this platform's own setting."""
USER = "admin"


class Refused(RuntimeError):
    """The stack cannot do what was asked; the message says why and what to change."""


@dataclass(frozen=True)
class Settings:
    state: Path
    lake: str
    airflow_port: int
    mlflow_port: int
    scheduler_sleep: float = 1.0
    """Seconds between two looks of a scheduler that has nothing to do; each costs some 60 ms of a core."""

    @classmethod
    def from_env(cls) -> Settings:
        lake = os.environ.get("PALIMPSEST_LAKE") or str(REPOSITORY / "lake")
        return cls(
            state=state_dir(),
            lake=lake if "://" in lake else str(Path(lake).absolute()),
            airflow_port=_port("PALIMPSEST_AIRFLOW_PORT", 8080),
            mlflow_port=_port("PALIMPSEST_MLFLOW_PORT", 5000),
        )

    @property
    def home(self) -> Path:
        return self.state / "airflow"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def mlflow_socket(self) -> Path:
        """Where MLflow listens; outside the state folder, because a socket's path may have no more than 107 bytes."""
        name = hashlib.sha256(str(self.state).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"palimpsest-{os.getuid()}-{name}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
            raise Refused(f"{folder} can be entered by others; delete it, it is made anew")
        return folder / "mlflow.sock"

    @property
    def tracking_uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.state / 'mlflow.db'}"

    @property
    def passwords_file(self) -> Path:
        return self.home / "passwords.json"

    @property
    def password(self) -> str:
        self.secrets  # noqa: B018  the password is made with the other secrets
        return json.loads(self.passwords_file.read_text())[USER]

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Keys that sign and encrypt, made on first use and readable by their owner only."""
        file = self.home / "secrets.json"
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.passwords_file.exists():
            _write_private(self.passwords_file, {USER: secrets.token_urlsafe(12)})
        if not file.exists():
            fernet = base64.urlsafe_b64encode(os.urandom(32)).decode()
            _write_private(file, {"fernet": fernet, "jwt": secrets.token_hex(32), "api": secrets.token_hex(32)})
        return json.loads(file.read_text())

    def environment(self) -> dict[str, str]:
        """Everything the processes need to know; no configuration file is written or read."""
        airflow = {
            "CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": str(cores() + 1),
            "CORE__FERNET_KEY": self.secrets["fernet"],
            "CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.passwords_file),
            # 30 s for a writer that waits for another one: beside trainings on few cores, SQLite's 5 are too few.
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}?timeout=30",
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.airflow_port),
            "API__BASE_URL": self.airflow_url,
            "API__SECRET_KEY": self.secrets["api"],
            "API_AUTH__JWT_SECRET": self.secrets["jwt"],
            "API__INSTANCE_NAME": "Palimpsest",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": os.environ.get(SCHEDULER_SLEEP) or str(self.scheduler_sleep),
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",  # what `make down` ended goes on after `make up`
            # Beside trainings its first answer takes half a minute; Airflow gives up after five tries of 5 s.
            "WORKERS__EXECUTION_API_TIMEOUT": "60",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "20",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "LOGGING__BASE_LOG_FOLDER": str(self.logs / "tasks"),
            "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self.logs / "parsing"),
        }
        return {
            **os.environ,
            **NO_TELEMETRY,
            **WITHOUT_JOBS,
            **{f"AIRFLOW__{key}": value for key, value in airflow.items()},
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "plugins"), str(REPOSITORY)]),
            "PYTHONUNBUFFERED": "1",
            "PALIMPSEST_STATE": str(self.state),
            "PALIMPSEST_LAKE": self.lake,
            "PALIMPSEST_AIRFLOW_URL": self.airflow_url,
            "PALIMPSEST_MLFLOW_PORT": str(self.mlflow_port),
            "PALIMPSEST_MLFLOW_URL": self.mlflow_url,
            "PALIMPSEST_MLFLOW_UPSTREAM": f"unix:{self.mlflow_socket}",
            "PALIMPSEST_DATA_DOCS_URL": f"{self.airflow_url}/palimpsest/data-docs",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
        }


def _port(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise Refused(f"{name} is {value!r}; set it to a port number between 1 and 65535")
    return int(value)


def _write_private(path: Path, content: dict[str, str]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(content, stream)
