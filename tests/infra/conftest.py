"""A real PostgreSQL, thrown away afterwards, prepared by the very script the compose stack runs."""

from __future__ import annotations

import base64
import contextlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import yaml
from sqlalchemy import make_url

from palimpsest.lake import REPOSITORY

ENTRYPOINT = REPOSITORY / "infra" / "docker" / "entrypoint.sh"


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, log: Path, seconds: float = 200) -> None:
    """Until ``url`` is answered; fails with the log's end if the process dies or the time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except HTTPError as refused:
            if refused.code < 500:
                return
            time.sleep(0.3)
        except (URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"{url} does not answer (process status {process.poll()}):\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return unused_port


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[Callable[[str], str]]:
    """``postgres_url(name)``: SQLAlchemy URL of the database of 'airflow', 'mlflow' or 'catalog', each its owner's."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    port = unused_port()
    folder = Path(tempfile.mkdtemp(prefix="palimpsest-postgres-"))
    try:
        with _cluster(binaries[-1], folder, port):
            passwords = {name: secrets.token_hex(8) for name in ("airflow", "mlflow", "catalog")}
            _create_databases(port, passwords)
            yield lambda name: f"postgresql+psycopg2://{name}:{passwords[name]}@127.0.0.1:{port}/{name}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _cluster(binaries: Path, folder: Path, port: int) -> Iterator[None]:
    """PostgreSQL refuses to run as root, so root hands it to the package's own user."""
    owner = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    identity = {"user": owner.pw_uid, "group": owner.pw_gid, "cwd": folder} if os.getuid() == 0 else {"cwd": folder}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True, **identity)

    password = folder / "password"
    password.write_text("superuser")
    data = str(folder / "data")
    run(str(binaries / "initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}", "-N")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield
    finally:
        run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "stop")


def _create_databases(port: int, passwords: Mapping[str, str]) -> None:
    subprocess.run(
        [REPOSITORY / "infra" / "postgres" / "init-databases.sh"],
        check=True,
        env={
            "PATH": os.environ["PATH"],
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGPASSWORD": "superuser",
            "POSTGRES_USER": "postgres",
            **{f"{name.upper()}_DB_PASSWORD": password for name, password in passwords.items()},
        },
    )


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Callable[..., contextmanager]:
    """``with service(*arguments, env=..., url=...)``: a service of the images, started by their entrypoint, healthy."""

    @contextmanager
    def running(*arguments: str, env: Mapping[str, str], url: str) -> Iterator[subprocess.Popen]:
        log = tmp_path_factory.mktemp("service") / f"{arguments[0]}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [ENTRYPOINT, *arguments], env=env, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            wait_for(url, process, log)
            yield process
        finally:
            _stop(process)
            print(f"{arguments[0]}:", log.read_text()[-6000:])  # shown if the test fails

    return running


def _stop(process: subprocess.Popen) -> None:
    """As Docker stops a container: a polite signal, then the whole group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


@pytest.fixture(scope="session")
def compose() -> dict:
    """docker-compose.yml as parsed: anchors resolved, ${...} as written."""
    return yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def container_environment(compose: dict, postgres_url, tmp_path_factory) -> Callable[..., dict[str, str]]:
    """A service's environment from docker-compose.yml, its hosts and folders replaced by this machine's."""
    data = tmp_path_factory.mktemp("data")
    api, scheduler, mlflow = unused_port(), unused_port(), unused_port()
    passwords = {name: make_url(postgres_url(name)).password for name in ("airflow", "mlflow", "catalog")}
    settings = {
        "AIRFLOW_FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW_JWT_SECRET": secrets.token_hex(16),
        "AIRFLOW_API_SECRET": secrets.token_hex(16),
        "PALIMPSEST_VLLM_API_KEY": secrets.token_hex(16),
        "AIRFLOW_ADMIN_PASSWORD": secrets.token_hex(8),
        "PALIMPSEST_AIRFLOW_PORT": str(api),
        "PALIMPSEST_MLFLOW_PORT": str(mlflow),
        **{f"{name.upper()}_DB_PASSWORD": password for name, password in passwords.items()},
    }
    here = {
        "postgres:5432": f"127.0.0.1:{make_url(postgres_url('airflow')).port}",
        "airflow-apiserver:8080": f"127.0.0.1:{api}",
        "mlflow:5000": f"127.0.0.1:{mlflow}",
        "/data": str(data),
        "/opt/palimpsest": str(REPOSITORY),
    }
    image = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(data),
        "PYTHONPATH": f"{REPOSITORY}/plugins:{REPOSITORY}",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(scheduler),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(unused_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(unused_port()),
        "MLFLOW_PORT": str(mlflow),
        "MLFLOW_BIND": "127.0.0.1",
        "MLFLOW_ARTIFACTS": f"{data}/mlartifacts",
    }

    def environment(name: str) -> dict[str, str]:
        written = compose["services"][name].get("environment", {})
        return image | {key: _replaced(interpolate(str(value), settings), here) for key, value in written.items()}

    return environment


def interpolate(text: str, settings: Mapping[str, str]) -> str:
    """${NAME}, ${NAME:-default} and ${NAME:?message} as Compose reads them."""

    def value(match: re.Match) -> str:
        name, operator, rest = match["name"], match["operator"], match["rest"]
        found = settings.get(name, "")
        if not found and operator == ":?":
            raise ValueError(f"required variable {name} is missing a value: {rest}")
        return found or rest or ""

    return re.sub(r"\$\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<rest>[^}]*))?\}", value, text)


def _replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text
