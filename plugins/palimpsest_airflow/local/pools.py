"""The pools the Dags name, sized for this machine."""

from __future__ import annotations

from pathlib import Path

from palimpsest.machine import cores
from palimpsest_airflow.local.api import Api

GPUS = Path("/proc/driver/nvidia/gpus")


def pools() -> dict[str, dict[str, object]]:
    """A deferred task keeps its slot in 'gpu': what waits for a model server still holds the card."""
    gpus = len(list(GPUS.iterdir())) if GPUS.exists() else 0
    return {
        "gpu": {
            "slots": gpus or cores(),
            "description": "One slot per GPU; without one, per core",
            "include_deferred": True,
        },
        "dbt": {"slots": 2, "description": "dbt builds at a time"},
        "train": {"slots": gpus or cores(), "description": "Pre-training runs at a time: one per GPU, or per core"},
    }


def ensure_pools(api: Api) -> None:
    """Make the pools that are missing; one that a person has resized stays as it is."""
    known = {pool["name"] for pool in api.get("pools")["pools"]}
    for name, body in pools().items():
        if name not in known:
            api.post("pools", {"name": name, **body})
