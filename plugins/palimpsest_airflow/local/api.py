"""Airflow's REST API, as far as the local stack needs it."""

from __future__ import annotations

import time
from typing import Any

import httpx

from palimpsest_airflow.local.settings import USER, Settings


class Api:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http = httpx.Client(base_url=settings.airflow_url, timeout=30, trust_env=False)

    def ready(self) -> bool:
        try:
            return self.http.get("/api/v2/version", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def login(self) -> None:
        answer = self.http.post("/auth/token", json={"username": USER, "password": self.settings.password})
        answer.raise_for_status()
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._call("GET", path, params=query)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("PATCH", path, json=body)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, json=body)

    def log(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """The log events of a task instance's last try."""
        path = f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
        found = self.get(f"{path}/logs/{max(task['try_number'], 1)}", map_index=task["map_index"], full_content=True)
        return [event if isinstance(event, dict) else {"event": event} for event in found["content"]]

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        for attempt in range(5):  # SQLite answers 500 "database is locked" when a writer is slow
            answer = self.http.request(method, f"/api/v2/{path}", **more)
            if answer.status_code < 500:
                break
            time.sleep(0.3 * (attempt + 1))
        answer.raise_for_status()
        return answer.json() if answer.content else {}
