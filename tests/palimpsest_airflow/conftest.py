"""A real API server of Airflow with this plugin, on a database, lake and port of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from palimpsest.lake import REPOSITORY, Facts, Lake
from palimpsest_airflow.local import databases, stack
from palimpsest_airflow.local.api import Api
from palimpsest_airflow.local.processes import Processes
from palimpsest_airflow.local.settings import Settings
from tests.conftest import made_once


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    settings: Settings
    api: Api
    anonymous: httpx.Client
    studies: Path
    """The folder of study files that it reads."""

    def page(self, path: str) -> httpx.Response:
        """As a browser gets it that is logged in."""
        token = {"Authorization": self.api.http.headers["Authorization"], "Accept": "text/html"}
        return self.anonymous.get(path, headers=token)


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Airflow may put its files when a test imports it."""
    home = tmp_path_factory.mktemp("airflow-home")
    os.environ.setdefault("AIRFLOW_HOME", str(home))
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    return home


@pytest.fixture(scope="session")
def made_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with nothing but new databases of Airflow, MLflow and the catalog."""

    def make(folder: Path) -> None:
        settings = Settings(folder, str(folder / "lake"), 1, 2)
        environment = settings.environment() | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
        environment.pop("PALIMPSEST_CATALOG", None)
        databases.make(settings, environment)

    return made_once(tmp_path_factory, "made-state", make)


def copy_databases(made: Path, settings: Settings) -> None:
    """What `databases.make` makes, which takes it half a minute on a busy machine."""
    settings.home.mkdir(parents=True, exist_ok=True)
    for pattern in ("airflow/airflow.db*", "airflow/schema", "mlflow.db*", "catalog.db*"):
        for file in made.glob(pattern):
            shutil.copy(file, settings.state / file.relative_to(made))
    assert databases.ready(settings)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, made_state: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = Settings(folder / "state", str(folder / "lake"), free_port(), free_port())
    publish_something(settings)
    studies = folder / "studies"
    shutil.copytree(REPOSITORY / "dags" / "studies", studies)
    environment = {**settings.environment(), "PALIMPSEST_STUDIES": str(studies)}
    copy_databases(made_state, settings)
    running = Processes(settings.home / "processes.json", settings.logs)
    api = Api(settings)
    try:
        running.start("api-server", stack.COMPONENTS["api-server"], environment, REPOSITORY)
        stack.wait(running, "api-server", api.ready)
        api.login()
        anonymous = httpx.Client(base_url=settings.airflow_url, timeout=30, trust_env=False)
        yield Server(settings, api, anonymous, studies)
    finally:
        running.stop()


def publish_something(settings: Settings) -> None:
    """A report, Data Docs and dbt docs, with a script in each as a hostile page would have it."""

    def write(directory: Path) -> Facts:
        (directory / "report.html").write_text("<h1>Report of demo</h1><script>steal()</script>")
        (directory / "table.json").write_text(json.dumps({"mixes": []}))
        return Facts()

    Lake(settings.lake).publish("studies/demo/report", write)
    for folder, page in (("data_docs", "index.html"), ("dbt_docs", "static_index.html")):
        (settings.state / folder).mkdir(parents=True)
        (settings.state / folder / page).write_text(f"<h1>{folder}</h1><script>steal()</script>")
    outside = settings.state / "outside.html"
    outside.write_text("not for readers")
    (settings.state / "data_docs" / "way_out.html").symlink_to(outside)
