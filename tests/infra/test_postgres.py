"""The compose stack's own commands and settings on a real PostgreSQL: what can be run of it without a container."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import pytest
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from palimpsest.lake import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ENTRYPOINT = REPOSITORY / "infra" / "docker" / "entrypoint.sh"
PATIENCE_S = 120
"""For one answer: Airflow's server starts its workers while other tests have the cores."""
DAG = """
from airflow.sdk import dag, task

@dag(schedule=None, catchup=False)
def sums():
    @task(pool="dbt")
    def add(x: int) -> int:
        return x + 1

    add.expand(x=[1, 2])

sums()
"""


def answer(url: str, body: dict | None = None, token: str | None = None) -> dict:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE_S) as reply:
        return json.load(reply)


def until(check: Callable[[], object], seconds: float) -> object:
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(1)


@pytest.fixture(scope="module")
def initialised(container_environment) -> dict[str, str]:
    environment = container_environment("airflow-init")
    for _ in range(2):  # every `docker compose up` runs it again
        done = subprocess.run([ENTRYPOINT, "init"], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
    return environment


@pytest.fixture(scope="module")
def mlflow_environment(container_environment, service) -> Iterator[dict[str, str]]:
    """That of the running service."""
    environment = container_environment("mlflow")
    with service("mlflow", env=environment, url=f"http://127.0.0.1:{environment['MLFLOW_PORT']}/health"):
        yield environment


def test_each_database_belongs_to_its_own_login(postgres_url):
    strangers = make_url(postgres_url("mlflow")).set(database="airflow")
    with create_engine(postgres_url("mlflow")).connect() as connection:
        assert connection.scalar(text("select current_user || '@' || current_database()")) == "mlflow@mlflow"
    with pytest.raises(OperationalError, match="permission denied"):
        create_engine(strangers).connect()


def test_init_prepares_database_pools_login_docs_and_catalog(initialised, postgres_url):
    with create_engine(postgres_url("airflow")).connect() as connection:
        pools = dict(connection.execute(text("select pool, include_deferred from slot_pool")).all())
    assert pools == {"default_pool": False, "gpu": True, "dbt": False, "train": False}
    passwords = Path(initialised["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    assert json.loads(passwords.read_text()) == {"admin": initialised["AIRFLOW_ADMIN_PASSWORD"]}
    assert stat.S_IMODE(passwords.stat().st_mode) == 0o600
    assert "palimpsest" in Path(initialised["PALIMPSEST_STATE"], "dbt_docs", "static_index.html").read_text()
    assert "dataset_versions" in inspect(create_engine(postgres_url("catalog"))).get_table_names()


def test_init_names_a_missing_secret(container_environment):
    environment = container_environment("airflow-init") | {"AIRFLOW_ADMIN_PASSWORD": ""}
    done = subprocess.run([ENTRYPOINT, "init"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "AIRFLOW_ADMIN_PASSWORD" in done.stderr
    assert ".env.example" in done.stderr


@pytest.mark.timeout(1200)
def test_airflow_runs_a_dag_on_postgresql(
    initialised, compose, container_environment, service, mlflow_environment, free_port, tmp_path
):
    (tmp_path / "sums.py").write_text(DAG)
    here = {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path)}
    environments = {
        name: container_environment(name) | here for name in compose["services"] if name.startswith("airflow-")
    }
    api = environments["airflow-apiserver"]["AIRFLOW__API__BASE_URL"]
    with ExitStack() as stack:
        for name in ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"):
            command = compose["services"][name]["command"]
            stack.enter_context(service(*command, env=environments[name], url=f"{api}/api/v2/version"))

        def healthy() -> bool:
            parts = answer(f"{api}/api/v2/monitor/health")
            return {part["status"] for part in parts.values()} == {"healthy"}

        assert until(healthy, 180), answer(f"{api}/api/v2/monitor/health")
        probe = [ENTRYPOINT, "healthy", "SchedulerJob"]
        assert subprocess.run(probe, env=environments["airflow-scheduler"], capture_output=True).returncode == 0

        with pytest.raises(HTTPError, match="401"):
            answer(f"{api}/auth/token", {"username": "admin", "password": "admin"})
        login = {"username": "admin", "password": initialised["AIRFLOW_ADMIN_PASSWORD"]}
        token = answer(f"{api}/auth/token", login)["access_token"]
        assert until(lambda: answer(f"{api}/api/v2/dags", token=token)["total_entries"], 120)
        run = answer(f"{api}/api/v2/dags/sums/dagRuns", {"logical_date": None, "conf": {}}, token)["dag_run_id"]
        patch = urllib.request.Request(
            f"{api}/api/v2/dags/sums",
            b'{"is_paused": false}',
            {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
            method="PATCH",
        )
        urllib.request.urlopen(patch, timeout=PATIENCE_S).close()

        def ended() -> str | None:
            state = answer(f"{api}/api/v2/dags/sums/dagRuns/{run}", token=token)["state"]
            return state if state in ("success", "failed") else None

        assert until(ended, 240) == "success"
        task = f"{api}/api/v2/dags/sums/dagRuns/{run}/taskInstances/add/xcomEntries/return_value?map_index=1"
        assert answer(task, token=token)["value"] == 3

        gateway = container_environment("mlflow-gateway")
        gateway["PALIMPSEST_MLFLOW_PORT"] = str(free_port())
        public = f"http://127.0.0.1:{gateway['PALIMPSEST_MLFLOW_PORT']}"
        stack.enter_context(service("mlflow-gateway", env=gateway, url=public))
        search = f"{public}/api/2.0/mlflow/experiments/search"
        with pytest.raises(HTTPError, match="401"):
            answer(search, {"max_results": 1})
        assert answer(search, {"max_results": 1}, token)["experiments"]


def test_mlflow_keeps_runs_in_postgresql_and_files_behind_its_server(mlflow_environment, postgres_url):
    import mlflow

    url = f"http://127.0.0.1:{mlflow_environment['MLFLOW_PORT']}"
    client = mlflow.MlflowClient(url)
    experiment = client.create_experiment("demo")
    run = client.create_run(experiment)
    client.log_metric(run.info.run_id, "validation/loss", 3.5, step=7)
    client.log_text(run.info.run_id, "real and synthetic", "notes.txt")
    stored = Path(mlflow_environment["MLFLOW_ARTIFACTS"], experiment, run.info.run_id, "artifacts", "notes.txt")
    assert stored.read_text() == "real and synthetic"
    foreign = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/search", headers={"Host": "evil.example"})
    with pytest.raises(HTTPError, match="403"):
        urllib.request.urlopen(foreign)
    with create_engine(postgres_url("mlflow")).connect() as connection:
        metrics = connection.execute(text("select key, value, step from latest_metrics")).all()
    assert metrics == [("validation/loss", 3.5, 7)]


def test_the_catalogs_own_tests_pass_on_postgresql(postgres_url):
    suite = [sys.executable, "-m", "pytest", "-q", "-rs", "-k", "postgresql", "-p", "no:cacheprovider"]
    environment = os.environ | {"PALIMPSEST_TEST_POSTGRES": postgres_url("catalog")}
    done = subprocess.run(
        [*suite, "tests/palimpsest/test_catalog.py"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "PALIMPSEST_TEST_POSTGRES" not in done.stdout
