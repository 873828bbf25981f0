"""Airflow's scheduler with the heavy libraries imported: its tasks are forks of it and start with them.

A task would import Great Expectations for 8 s, torch and MLflow for 3 s each, and a study has twenty tasks. Only
libraries are imported here, never this repository's code, so an edit takes effect with the next task.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from pathlib import Path

LIBRARIES = (
    "pyarrow.dataset",
    "duckdb",
    "tokenizers",
    "dbt.cli.main",
    "dbt.task.build",
    "dbt.adapters.duckdb",
    "great_expectations",
    "torch",
    "torch._dynamo",  # torch imports it with the first optimizer: 3 s, in every training
    "torch.profiler",
    "safetensors.torch",
    "scipy.stats",
    "matplotlib.pyplot",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
)


def load() -> None:
    """Import what tasks would import: a fork of this process has it."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # the task that needs it says so
            importlib.import_module(name)


def main(databases_made: Path) -> None:
    """Start the scheduler as soon as the file ``databases_made`` exists; until then the libraries load."""
    load()
    while not databases_made.exists():
        time.sleep(0.1)
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    airflow()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
