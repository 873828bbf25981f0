"""The whole graph against its checked-in picture: a change of it is a decision, never an accident.

Renew the picture with ``RENEW_GRAPH=1 python -m pytest tests/dags/test_graph.py`` and read its diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

PICTURE = Path(__file__).with_name("graph.json")


def picture(dag: dict) -> dict:
    tasks = {}
    for task in (entry["__var"] for entry in dag["tasks"]):
        found = {**task, **task.get("partial_kwargs", {})}
        tasks[task["task_id"]] = {
            "pool": found.get("pool", "default_pool"),
            "mapped": bool(task.get("_is_mapped")),
            "outlets": [outlet["__var"]["name"] for outlet in found.get("outlets", [])],
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


def test_the_graph_is_the_one_checked_in(parsed):
    found = {name: picture(dag) for name, dag in sorted(parsed["dags"].items())}
    if os.environ.get("RENEW_GRAPH"):
        PICTURE.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(PICTURE.read_text())
