"""The whole graph against its checked-in picture: a change of it is a decision, never an accident.

Renew the picture with ``RENEW_GRAPH=1 python -m pytest tests/dags/test_graph.py`` and read its diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

PICTURE = Path(__file__).with_name("graph.json")
SERVED = Path(__file__).with_name("graph_vllm.json")


def picture(dag: dict) -> dict:
    tasks = {}
    for task in (entry["__var"] for entry in dag["tasks"]):
        found = {**task, **task.get("partial_kwargs", {})}
        tasks[task["task_id"]] = {
            "pool": found.get("pool", "default_pool"),
            "mapped": bool(task.get("_is_mapped")),
            "outlets": [outlet["__var"]["name"] for outlet in found.get("outlets", [])],
            **{key: found[key] for key in ("is_setup", "is_teardown", "trigger_rule") if key in found},
            "then": sorted(task.get("downstream_task_ids", [])),
        }
    timetable = dag["timetable"]
    condition = timetable["__var"].get("asset_condition") or {}
    return {
        "schedule": {
            "kind": timetable["__type"].rsplit(".", 1)[-1],
            "cron": timetable["__var"].get("expression"),
            "assets": sorted(asset["name"] for asset in condition.get("objects", [])),
        },
        "owner": dag["default_args"]["__var"]["owner"],
        "tags": sorted(dag["tags"]),
        "tasks": tasks,
    }


def compared(found: dict, file: Path) -> None:
    if os.environ.get("RENEW_GRAPH"):
        file.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(file.read_text())


def test_the_graph_is_the_one_checked_in(parsed):
    compared({name: picture(dag) for name, dag in sorted(parsed["dags"].items())}, PICTURE)


def test_a_loop_runs_its_rounds_one_after_the_other_and_reports_whatever_happened(parsed):
    tasks = picture(parsed["dags"]["loop_cpython"])["tasks"]
    order = [f"round_{number}" for number in range(4)]
    for before, after in zip(order, [*order[1:], "report"], strict=True):
        assert tasks[before]["then"] == [after]
    assert tasks["report"]["trigger_rule"] == "all_done"
    rounds = [picture(parsed["dags"][f"study_cpython_round_{number}"])["tasks"] for number in range(4)]
    assert {"serve", "stop_serving", "train"} <= rounds[1].keys()
    assert "serve" not in rounds[0]


def test_a_corpus_whose_files_lie_elsewhere_fetches_them_first(served):
    found, plain = (picture(served["dags"][f"corpus_{name}"])["tasks"] for name in ("commoncrawl", "sample"))
    fetch = found.pop("fetch")
    assert fetch["then"] == ["extract"]
    assert found.keys() == plain.keys()
    assert found["extract"] == plain["extract"]


def test_a_crawled_corpus_says_that_its_runs_take_all_days_crawled(served):
    crawl, fetched = (served["dags"][f"corpus_{name}"]["doc_md"] for name in ("crawl", "commoncrawl"))
    assert "makes a crawl of its own" in crawl and "interval's run takes its days" not in crawl
    assert "makes a crawl of its own" not in fetched and "interval's run takes its days" in fetched


def test_a_study_with_model_servers_asks_starts_and_stops_around_its_generation(served):
    assert served["errors"] == {}
    found, plain = (picture(served["dags"][f"study_{name}"]) for name in ("rephrase_vllm", "demo"))
    compared(found, SERVED)
    assert found["tasks"].keys() - plain["tasks"].keys() == {"approve", "serve", "stop_serving"}


def test_stopping_runs_whatever_happened_and_only_ever_fails_a_run(served):
    dag = served["dags"]["study_rephrase_vllm"]
    tasks = {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}
    assert tasks["serve"]["is_setup"] is True
    assert tasks["stop_serving"]["is_teardown"] is True
    assert tasks["stop_serving"]["trigger_rule"] == "all_done"
    assert tasks["stop_serving"]["on_failure_fail_dagrun"] is True
    ends = {name for name, task in tasks.items() if not task.get("downstream_task_ids")}
    assert ends == {"stop_serving", "report"}, "a teardown with a task after it has no say in the run's state"


def test_only_a_study_with_model_servers_offers_to_replay_failed_requests(served):
    params = {name: dict(dag["params"]) for name, dag in served["dags"].items()}
    assert params["study_demo"] == {}
    replay = params["study_rephrase_vllm"]["replay"]
    assert replay["default"] is False
    assert replay["schema"]["__var"]["type"] == "boolean"
