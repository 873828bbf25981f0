"""A study on the real vLLM through the real scheduler: asked, approved, served, generated, stopped, reported."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from palimpsest.lake import Lake
from palimpsest_airflow.local.runs import FINISHED, trigger, wait_for_dags
from palimpsest_airflow.local.settings import USER
from tests.e2e.conftest import Place, place  # noqa: F401  a fixture
from tests.palimpsest.conftest import publish_corpus, write_study
from tests.vllm.conftest import CONTEXT, ENVIRONMENT, QUICK, TEMPLATE

pytestmark = [pytest.mark.vllm, pytest.mark.e2e, pytest.mark.timeout(2400)]
DAG = "study_told"
IDLE_S = 20
LENIENT = {
    "max_truncated_share": 1,
    "max_dropped_share": 1,
    "max_duplicate_share": 1,
    "max_near_copy_share": 1,
    "min_length_ratio": 0,
    "max_length_ratio": 1000,
}
"""The model writes nonsense, and learned from text of this platform: what becomes of its words is the matter."""


class Stack:
    """The running platform as its user sees it: through Airflow's REST API."""

    def __init__(self, at: Place) -> None:
        self.place = at
        self.api = at.api()

    def trigger(self, **params: object) -> str:
        return trigger(self.api, DAG, params)

    def tasks(self, run: str) -> list[dict[str, Any]]:
        return self.api.get(f"dags/{DAG}/dagRuns/{run}/taskInstances", limit=1000)["task_instances"]

    def states(self, run: str) -> dict[str, set[str | None]]:
        found: dict[str, set[str | None]] = {}
        for task in self.tasks(run):
            found.setdefault(task["task_id"], set()).add(task["state"])
        return found

    def wait(self, run: str, seen, patience: float = 800.0) -> dict[str, set[str | None]]:
        """The states of the run's tasks, once ``seen(states)`` is true."""
        until = time.monotonic() + patience
        while not seen(states := self.states(run)):
            assert time.monotonic() < until, f"after {patience:.0f} s: {states}"
            ended = self.state(run) in ("success", "failed") and states.keys() <= FINISHED
            assert not ended, states
            time.sleep(0.5)
        return states

    def state(self, run: str) -> str:
        return self.api.get(f"dags/{DAG}/dagRuns/{run}")["state"]

    def end(self, run: str, patience: float = 800.0) -> str:
        until = time.monotonic() + patience
        while (state := self.state(run)) not in ("success", "failed"):
            assert time.monotonic() < until, f"after {patience:.0f} s: {self.states(run)}"
            time.sleep(0.5)
        return state

    def answer(self, run: str, option: str, patience: float = 400.0) -> None:
        """What a person's click under Required Actions does, once the scheduler knows that the task waits.

        An answer that comes earlier is lost in Airflow 3.3 (see `palimpsest_airflow.tasks.approve.QUESTIONS`).
        """
        path = f"dags/{DAG}/dagRuns/{run}/taskInstances/approve/-1"
        noticed = f"task_id='approve', run_id='{run}', try_number={self.api.get(path)['try_number']}"
        log = self.place.state / "logs" / "scheduler.log"
        until = time.monotonic() + patience
        while not any(noticed in line for line in log.read_text().splitlines() if "Received executor event" in line):
            assert time.monotonic() < until, f"the scheduler has not noticed {noticed}"
            time.sleep(0.5)
        self.api.patch(f"{path}/hitlDetails", {"chosen_options": [option], "params_input": {}})

    def log(self, run: str, task_id: str, map_index: int = -1) -> str:
        task = next(t for t in self.tasks(run) if t["task_id"] == task_id and t["map_index"] == map_index)
        return "\n".join(str(event) for event in self.api.log(task))

    def value(self, run: str, task_id: str, key: str = "return_value") -> Any:
        path = f"dags/{DAG}/dagRuns/{run}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api.get(path, deserialize="true")["value"]

    def page(self, address: str) -> httpx.Response:
        return self.api.http.get(f"/palimpsest/{address}", headers={"Accept": "text/html"})

    def servers(self) -> list[psutil.Process]:
        """Every process of a model server of this platform."""
        ours = {folder.name for folder in (self.place.state / "servers").glob("*")}
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PALIMPSEST_SERVER") in ours:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found


def write_told(at: Place, generations: int = 2, budget: float = 0) -> None:
    """The study: four strategies on the model that the platform trained."""
    folder = Path(at.environment["PALIMPSEST_STUDIES"])
    folder.mkdir(exist_ok=True)
    (folder / "chat.jinja").write_text(TEMPLATE)
    engine = {"kind": "vllm", "server": "tiny"}
    asked = {"engine": engine, "generations": generations, "sampling": {"max_tokens": 24}}
    keep = {"refusal": "drop"} | dict.fromkeys(("prompt_echo", "loop", "language", "pii"), "keep")
    strategies = {
        kind: {"kind": kind, **asked, "review": keep} for kind in ("rephrase", "rationale", "continuation", "self")
    }
    layouts = {"real": {"kind": "real"}, "stretched": {"kind": "stretched", "strategy": "rationale"}}
    layouts |= {name: {"kind": "simple", "strategy": name} for name in ("rephrase", "continuation", "self")}
    server = {
        "model": "run:small/real-s0",
        "gpus": 1,
        "context": CONTEXT,
        "arguments": {**QUICK, "enable-chunked-prefill": False, "chat-template": str(folder / "chat.jinja")},
        "ready_within_s": 600,
    }
    mixes = {"real": {"layout": "real", "epochs": 2}, "stretched": {"layout": "stretched", "f": 0.5, "epochs": 1}}
    own = {"schedule": "manual", "shards": 2, "budget_gpu_hours": budget, "servers": {"tiny": server}, "gates": LENIENT}
    own |= {"strategies": strategies, "layouts": layouts, "mixes": mixes, "guard": {"experiment": True}}
    write_study(folder, **own)
    content = yaml.safe_load((folder / "small.yaml").read_text())
    (folder / "small.yaml").unlink()
    content["training"] |= {"seeds": [0], "reference_shares": []}
    content |= {"name": "told"}
    (folder / "told.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def stack(place: Place, trained: Lake, vllm_environment: Path) -> Iterator[Stack]:  # noqa: F811
    """`make up` on a lake with the trained model and admitted documents; `make down` afterwards."""
    place.environment |= ENVIRONMENT
    place.environment |= {"PALIMPSEST_VLLM_PYTHON": os.environ["PALIMPSEST_VLLM_PYTHON"]}
    place.environment["PALIMPSEST_SERVER_IDLE_S"] = str(IDLE_S)
    run = "studies/small/runs/real-s0"
    shutil.copytree(f"{trained.base}/{run}", f"{place.lake.base}/{run}")
    publish_corpus(place.lake, 16)
    write_told(place)
    started = place.command("up")
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        running = Stack(place)
        wait_for_dags(running.api, [DAG])
        yield running
    finally:
        stopped = place.command("down")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert place.leftovers() == []


@pytest.fixture(scope="module")
def rejected(stack: Stack) -> str:
    run = stack.trigger()
    stack.wait(run, lambda states: states["approve"] == {"awaiting_input"})
    return run


def test_above_the_budget_a_person_is_asked_and_nothing_is_started(stack, rejected):
    asked = stack.api.get(f"dags/{DAG}/dagRuns/{rejected}/taskInstances/approve/-1/hitlDetails")
    assert (asked["options"], asked["params"]) == (["Approve", "Reject"], {})
    assert "96 requests are left" in asked["body"]
    assert "| rephrase " in asked["body"] and "| all " in asked["body"]
    assert asked["body"].splitlines()[-1].startswith("- self: ")
    assert "| rephrase " in stack.log(rejected, "plan")
    assert stack.servers() == []


def test_rejecting_fails_the_run_and_says_what_to_change(stack, rejected):
    stack.answer(rejected, "Reject")
    assert stack.end(rejected) == "failed"
    states = stack.states(rejected)
    assert states["approve"] == {"failed"}
    assert states["serve"] == states["generate"] == states["report"] == {"upstream_failed"}
    log = stack.log(rejected, "approve")
    assert f"rejected by {USER} at " in log and "budget_gpu_hours" in log
    assert stack.servers() == []


def test_the_same_run_does_not_ask_for_another_estimate_under_the_first_ones_figures(stack, rejected):
    """Airflow would show the first question's text."""
    write_told(stack.place, generations=1)
    body = {"dry_run": False, "dag_run_id": rejected, "task_ids": ["plan"], "reset_dag_runs": True}
    stack.api.post(f"dags/{DAG}/clearTaskInstances", {**body, "only_failed": False, "include_downstream": True})
    assert stack.end(rejected) == "failed"
    assert "48 requests are left" in stack.log(rejected, "approve")
    assert "trigger the Dag again" in stack.log(rejected, "approve")
    write_told(stack.place)


@pytest.fixture(scope="module")
def approved(stack: Stack, rejected: str) -> dict[str, Any]:
    """A run that was approved, to its end; and what could be seen while its servers were up."""
    run = stack.trigger()
    stack.wait(run, lambda states: states["approve"] == {"awaiting_input"})
    stack.answer(run, "Approve")
    stack.wait(run, lambda states: states["serve"] == {"success"})
    seen = {"run": run, "servers": [p.name() for p in stack.servers()], "page": stack.page(f"generation/{DAG}/")}
    seen["metrics"] = stack.page(f"generation/{DAG}/metrics/tiny/0/")
    seen["state"] = stack.end(run)
    return seen


def test_an_approved_run_generates_stops_its_server_and_ends_in_a_report(stack, approved):
    assert approved["state"] == "success", stack.states(approved["run"])
    assert approved["servers"]
    assert stack.servers() == []
    made = stack.place.lake.latest("studies/told/generations").manifest["rows"]
    assert made["input"] == 96
    assert made["kept"] >= 80, f"the model ended that often before its first word: {made}"
    assert stack.place.lake.latest("studies/told/report")


def test_who_approved_and_when_is_kept(stack, approved):
    kept = stack.value(approved["run"], "approve")
    assert kept["approved_by"] == USER
    assert kept["at"].startswith("20")
    assert f"approved by {USER} at " in stack.log(approved["run"], "approve")


def test_progress_is_in_the_log_and_the_key_of_the_server_is_not(stack, approved):
    logs = [stack.log(approved["run"], "generate", shard) for shard in (0, 1)]
    assert all("requests (100.0%)" in log for log in logs)
    key = (stack.place.state / "servers" / "api-key").read_text()
    for log in (*logs, stack.log(approved["run"], "serve")):
        assert key not in log


def test_the_page_shows_the_server_while_it_runs_and_the_costs_afterwards(stack, approved):
    while_running, metrics = approved["page"], approved["metrics"]
    assert while_running.status_code == metrics.status_code == 200
    assert "tiny/0" in while_running.text and "ready" in while_running.text
    assert "vllm:num_requests_running" in metrics.text
    after = stack.page(f"generation/{DAG}/").text
    assert "100.0%" in after and "No server is running" in after
    links = [
        stack.api.get(f"dags/{DAG}/dagRuns/{approved['run']}/taskInstances/{task}/links", map_index=index)
        for task, index in (("plan", -1), ("serve", -1), ("generate", 0))
    ]
    assert all(link["extra_links"]["Generation"].endswith(f"/palimpsest/generation/{DAG}/") for link in links)


@pytest.fixture(scope="module")
def grown(stack: Stack, approved: dict[str, Any]) -> str:
    """One more sample of each, within the budget by the measured speed, stopped by a person while it generates."""
    write_told(stack.place, generations=3, budget=5)
    run = stack.trigger()
    stack.wait(run, lambda states: "running" in states["generate"])
    return run


def test_within_the_budget_a_run_goes_on_by_itself_and_asks_only_for_what_is_new(stack, grown):
    assert stack.value(grown, "approve")["approved_by"] is None
    assert "within the budget of 5" in stack.log(grown, "approve")


def test_a_run_that_a_person_ends_leaves_no_server_behind(stack, grown):
    assert stack.servers()
    stack.api.patch(f"dags/{DAG}/dagRuns/{grown}", {"state": "failed"})
    assert stack.end(grown) == "failed"
    assert stack.states(grown)["generate"] == {"failed"}
    assert "the servers are stopped; somebody ended this run during generate_" in stack.log(grown, "stop_serving")
    assert stack.servers() == []


def test_a_single_shard_that_is_cleared_brings_the_server_up_and_idleness_ends_it(stack, grown):
    body = {"dry_run": False, "dag_run_id": grown, "task_ids": [["generate", 0]], "reset_dag_runs": True}
    body |= {"only_failed": False, "include_downstream": False}
    stack.api.post(f"dags/{DAG}/clearTaskInstances", body)
    up = False
    until = time.monotonic() + 400
    while (state := shard_state(stack, grown, 0)) != "success":
        assert time.monotonic() < until and state != "failed", state
        up = up or bool(stack.servers())
        time.sleep(1)
    assert up
    until = time.monotonic() + 3 * IDLE_S + 60
    while stack.servers():
        assert time.monotonic() < until, "the server goes on although nobody uses it"
        time.sleep(1)


def shard_state(stack: Stack, run: str, shard: int) -> str | None:
    return next(t for t in stack.tasks(run) if t["task_id"] == "generate" and t["map_index"] == shard)["state"]
