"""MLflow behind the login of a real API server: a real MLflow server on its socket, the real gateway before it."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator

import httpx
import pytest

from palimpsest.lake import REPOSITORY
from palimpsest_airflow.local import stack
from palimpsest_airflow.local.processes import Processes

SEARCH = "/api/2.0/mlflow/experiments/search"


@pytest.fixture(scope="module")
def mlflow(server) -> Iterator[httpx.Client]:
    settings, environment = server.settings, server.settings.environment()
    running = Processes(settings.home / "mlflow-processes.json", settings.logs)
    try:
        running.start("mlflow", stack._mlflow_server(settings), environment, REPOSITORY)
        running.start("mlflow-gateway", [sys.executable, "-m", "palimpsest_airflow.gateway"], environment, REPOSITORY)
        stack.wait(running, "mlflow", lambda: stack.mlflow_answers(settings))
        with httpx.Client(base_url=settings.mlflow_url, timeout=30, trust_env=False) as client:
            yield client
    finally:
        running.stop()


@pytest.fixture
def token(server) -> str:
    return server.api.http.headers["Authorization"].removeprefix("Bearer ")


def test_without_the_login_a_browser_is_sent_to_it_and_a_program_is_refused(server, mlflow):
    browser = mlflow.get("/", headers={"Accept": "text/html"})
    assert browser.status_code == 302
    assert browser.headers["location"].startswith(f"{server.settings.airflow_url}/auth/login/?next=")
    program = mlflow.post(SEARCH, json={"max_results": 1})
    assert program.status_code == 401
    assert "MLFLOW_TRACKING_TOKEN" in program.json()["detail"]
    for forged in ({"Cookie": "_token=forged"}, {"Authorization": "Bearer forged"}):
        assert mlflow.get("/", headers=forged).status_code == 401


def test_airflows_session_cookie_opens_mlflow(mlflow, token):
    page = mlflow.get("/", headers={"Cookie": f"_token={token}", "Accept": "text/html"})
    assert page.status_code == 200
    assert "<title>MLflow</title>" in page.text
    found = mlflow.post(SEARCH, headers={"Cookie": f"_token={token}"}, json={"max_results": 5})
    assert found.json()["experiments"]


def test_mlflows_own_client_works_with_airflows_token(server, mlflow, token, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    from mlflow import MlflowClient

    client = MlflowClient(server.settings.mlflow_url)
    run = client.create_run(client.create_experiment("through the gateway"))
    client.log_metric(run.info.run_id, "loss", 3.5)
    client.log_text(run.info.run_id, "ä" * 100_000, "notes.txt")
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 3.5}
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["notes.txt"]


def test_another_sites_page_cannot_change_anything_with_the_users_cookie(mlflow, token):
    headers = {"Cookie": f"_token={token}", "Origin": "https://evil.example"}
    answer = mlflow.post("/api/2.0/mlflow/experiments/create", headers=headers, json={"name": "planted"})
    assert answer.status_code == 403


def test_only_its_owner_reaches_mlflow_past_the_gateway(server, mlflow):
    folder = server.settings.mlflow_socket.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
