"""The local databases of Airflow, MLflow and the catalog: made on first use, upgraded with what is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from palimpsest.lake import digest_code
from palimpsest_airflow.local.settings import Refused, Settings


def stamp(settings: Settings) -> Path:
    """The file that says the databases are made, and for which versions."""
    return settings.home / "schema"


def ready(settings: Settings) -> bool:
    """Whether all databases are at the schema of the installed versions."""
    made = stamp(settings).exists() and (settings.home / "airflow.db").exists()
    return made and stamp(settings).read_text() == versions()


def versions() -> str:
    catalog = digest_code("plugins/palimpsest/catalog/migrations")[:12]
    return f"airflow {version('apache-airflow-core')}, mlflow {version('mlflow')}, catalog {catalog}"


def make(settings: Settings, environment: dict[str, str]) -> None:
    """Create or upgrade Airflow's, MLflow's and the catalog's database, at once; the scheduler waits for the stamp."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    make_mlflow = "import mlflow; mlflow.MlflowClient().search_experiments(max_results=1)"
    make_catalog = "from palimpsest.catalog import Catalog; Catalog.from_env().migrate()"
    commands = {
        "airflow-migrate": [sys.executable, "-m", "airflow", "db", "migrate"],
        "mlflow-migrate": [sys.executable, "-c", make_mlflow],
        "catalog-migrate": [sys.executable, "-c", make_catalog],
    }
    started = {}
    for name, command in commands.items():
        with (settings.logs / f"{name}.log").open("wb") as log:
            started[name] = subprocess.Popen(command, env=environment, cwd=settings.home, stdout=log, stderr=log)
    try:
        failed = [name for name, process in started.items() if process.wait() != 0]
    except BaseException:
        for process in started.values():
            process.kill()
        raise
    if failed:
        raise Refused(f"{failed[0]} failed: see {settings.logs / failed[0]}.log, then `make reset` and start again")
    stamp(settings).write_text(versions())
