"""Airflow's components and MLflow on this machine: started, looked at, stopped, wiped."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import httpx

from palimpsest.lake import REPOSITORY
from palimpsest_airflow.local import databases
from palimpsest_airflow.local.api import Api
from palimpsest_airflow.local.pools import ensure_pools
from palimpsest_airflow.local.processes import Processes, alone, need_port
from palimpsest_airflow.local.settings import USER, Refused, Settings

AIRFLOW = [sys.executable, "-m", "airflow"]
COMMAND = [sys.executable, "-m", "palimpsest_airflow.local.command"]
COMPONENTS = {
    "scheduler": [sys.executable, "-m", "palimpsest_airflow.local.warm"],
    "api-server": [*AIRFLOW, "api-server"],
    "dag-processor": [*AIRFLOW, "dag-processor"],
}
STATE_ENTRIES = ("airflow", "catalog.db*", "mlflow.db*", "*.lock", "demo.json", "home", "logs")
STATE_ENTRIES += ("data_docs", "dbt", "dbt_docs", "gx", "mlartifacts", "models", "servers")
LAKE_ENTRIES = ("corpora", "ledger", "studies")
PATIENCE = 180.0
"""Seconds a component may take to answer; a cold start on a busy two-core machine takes a third of it."""


def processes(settings: Settings) -> Processes:
    return Processes(settings.home / "processes.json", settings.logs)


def locked(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return alone(settings.home / "lock")


def start_components(settings: Settings, running: Processes) -> Api:
    """Airflow, ready for requests; the databases are made on first use."""
    need_port(settings.airflow_port, "PALIMPSEST_AIRFLOW_PORT")
    environment = settings.environment()
    stale = not databases.ready(settings)
    if stale:
        databases.stamp(settings).unlink(missing_ok=True)
    scheduler = [*COMPONENTS["scheduler"], str(databases.stamp(settings))]
    running.start("scheduler", scheduler, environment, REPOSITORY)
    if stale:
        databases.make(settings, environment)
    for name in ("api-server", "dag-processor"):
        running.start(name, COMPONENTS[name], environment, REPOSITORY)
    api = Api(settings)
    wait(running, "api-server", api.ready)
    api.login()
    ensure_pools(api)
    return api


def wait(running: Processes, name: str, ready, patience: float = PATIENCE) -> None:
    """Until ``ready()``; a component that ends meanwhile is reported with the end of its log."""
    deadline = time.monotonic() + patience
    while not ready():
        ended = [other for other, process in running.started.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            culprit = ended[0] if ended else name
            reason = "ended early" if ended else f"did not answer within {patience:.0f} s"
            raise Refused(f"{culprit} {reason}; {running.logs / culprit}.log ends with:\n{running.log_tail(culprit)}")
        time.sleep(0.2)


def up(settings: Settings) -> None:
    """Start everything and leave it running."""
    with locked(settings):
        running = processes(settings)
        if left_by_up(running) and set(running.alive()) == set(running.recorded()):
            print(f"already running ({', '.join(running.alive())})")
            return describe(settings)
        running.stop()
        need_port(settings.mlflow_port, "PALIMPSEST_MLFLOW_PORT")
        environment = settings.environment()
        docs = [sys.executable, "-m", "palimpsest_airflow.local.dbt_docs"]
        try:
            with subprocess.Popen(docs, env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as documenting:
                start_components(settings, running)
                running.start("triggerer", [*AIRFLOW, "triggerer", "--skip-serve-logs"], environment, REPOSITORY)
                running.start("mlflow", _mlflow_server(settings), environment, REPOSITORY)
                gateway = [sys.executable, "-m", "palimpsest_airflow.gateway"]
                running.start("mlflow-gateway", gateway, environment, REPOSITORY)
                wait(running, "mlflow", lambda: mlflow_answers(settings))
            if documenting.returncode:
                print("dbt docs could not be written; the message above says why", file=sys.stderr)
        except BaseException:
            running.stop()
            raise
    return describe(settings)


def left_by_up(running: Processes) -> bool:
    """Whether `up` started what is recorded, and not a demo that was killed: its leftovers are stopped, never used."""
    return "mlflow" in running.recorded()


def describe(settings: Settings) -> None:
    print(
        f"\n  Airflow     {settings.airflow_url}\n  Reports     {settings.airflow_url}/plugin/palimpsest\n"
        f"  Data Docs   {settings.airflow_url}/palimpsest/data-docs/\n"
        f"  dbt docs    {settings.airflow_url}/palimpsest/dbt-docs/\n  MLflow      {settings.mlflow_url}\n"
        f"\n  login       {USER} / {settings.password}\n\n`make down` stops it, `make status` shows it.\n"
    )


def down(settings: Settings) -> None:
    running = processes(settings)
    names = running.alive()
    running.stop()
    print(f"stopped {', '.join(names)}" if names else "nothing was running")
    stop_model_servers(settings)


def stop_model_servers(settings: Settings) -> None:
    """End what the studies of this state folder serve; a server outlives the task that started it, and the stack."""
    if (settings.state / "servers").exists():
        stop = [sys.executable, "-m", "palimpsest", "serve", "stop"]
        done = subprocess.run(stop, env=settings.environment(), cwd=REPOSITORY, capture_output=True, text=True)
        if done.returncode:
            raise Refused(f"a model server could not be stopped: {done.stderr.strip()}")
        print(f"model servers: {done.stdout.strip()}")


def airflow(settings: Settings, arguments: list[str]) -> int:
    """Airflow's own command line, with the databases, secrets and folders of this stack."""
    if not databases.ready(settings):
        raise Refused(f"no Airflow database in {settings.home} yet; `make demo` or `make up` makes it")
    return subprocess.call([*COMMAND, *arguments], env=settings.environment(), cwd=REPOSITORY)


def status(settings: Settings) -> bool:
    """Whether everything that was started still runs; prints what."""
    running = processes(settings)
    alive, recorded = running.alive(), running.recorded()
    if not recorded:
        print("not running (`make up` starts it)")
        return False
    for name in recorded:
        state = f"running, process {alive[name]}" if name in alive else f"ended; see {running.logs / name}.log"
        print(f"  {name:14} {state}")
    describe(settings)
    return len(alive) == len(recorded)


def reset(settings: Settings) -> None:
    """Delete lake and state; a folder with anything in it that is not the platform's own is refused, not deleted."""
    ours = {settings.state: STATE_ENTRIES}
    if "://" in settings.lake:
        print(f"the lake {settings.lake} is remote and was left alone; delete it with its own tools")
    else:
        ours[Path(settings.lake)] = LAKE_ENTRIES
    for folder, entries in ours.items():
        found = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
        foreign = [name for name in found if not any(fnmatch(name, entry) for entry in entries)]
        if foreign:
            raise Refused(f"{folder} holds {', '.join(foreign[:5])}, which is not the platform's: delete it by hand")
    with locked(settings):
        processes(settings).stop()
        stop_model_servers(settings)
        shutil.rmtree(settings.mlflow_socket.parent)
        for folder in ours:
            if folder.exists():
                shutil.rmtree(folder)
                print(f"deleted {folder}")


@contextlib.contextmanager
def running_stack(settings: Settings) -> Iterator[tuple[Api, Processes]]:
    """The stack that `up` left running, else one of our own that is stopped whatever happens."""
    with locked(settings):
        running = processes(settings)
        if left_by_up(running) and "scheduler" in running.alive() and Api(settings).ready():
            api = Api(settings)
            api.login()
            ensure_pools(api)
            yield api, running
            return
        running.stop()
        try:
            yield start_components(settings, running), running
        finally:
            running.stop(grace=1.5)


def mlflow_answers(settings: Settings) -> bool:
    """Whether both MLflow and the gateway to it serve; the gateway's own refusal is an answer."""
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(settings.mlflow_socket)), timeout=3) as mlflow:
            served = mlflow.get("http://localhost/health").status_code == 200
        return served and httpx.get(settings.mlflow_url, timeout=3, trust_env=False).status_code == 401
    except httpx.TransportError:
        return False


def _mlflow_server(settings: Settings) -> list[str]:
    """On a socket in a folder of the user's own, because MLflow asks for no login: the gateway does."""
    artifacts = ["--artifacts-destination", str(settings.state / "mlartifacts")]
    store = ["--backend-store-uri", settings.tracking_uri, *artifacts]
    listen = ["--workers", "1", "--uvicorn-opts", f"--uds {settings.mlflow_socket}"]
    return [sys.executable, "-m", "mlflow", "server", *store, *listen]
