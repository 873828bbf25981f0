"""The Dag files as Airflow's Dag processor reads them, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from palimpsest.lake import REPOSITORY

EXAMPLE = REPOSITORY / "docs" / "examples" / "rephrase_vllm.yaml"
REMOTE = REPOSITORY / "docs" / "examples" / "commoncrawl.yaml"
CRAWL = REPOSITORY / "docs" / "examples" / "crawl.yaml"
PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag(sys.argv[1])
loaded = sorted(name for name in sys.modules if "." not in name)
dags = {name: DagSerialization.to_dict(dag)["dag"] for name, dag in bag.dags.items()}
print("\\n" + json.dumps({"dags": dags, "errors": bag.import_errors, "modules": loaded}))
"""


@pytest.fixture(scope="session")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict]:
    """Serialized Dags, import errors and loaded modules, with other corpus or study folders if wanted."""

    def run(**environment: str) -> dict:
        home = tmp_path_factory.mktemp("airflow")
        folders = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "PYTHONPATH": f"{REPOSITORY / 'plugins'}{os.pathsep}{REPOSITORY}",
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PALIMPSEST_"))}
        command = [sys.executable, "-c", PARSE, str(REPOSITORY / "dags")]
        done = subprocess.run(command, env={**kept, **folders, **environment}, capture_output=True, text=True, cwd=home)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def parsed(parse) -> dict:
    return parse()


@pytest.fixture(scope="session")
def served(parse, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The demo study, the example of a study with a model server, and those of corpora whose files are fetched."""
    folder, corpora = tmp_path_factory.mktemp("studies"), tmp_path_factory.mktemp("corpora")
    for file in (REPOSITORY / "dags" / "studies" / "demo.yaml", EXAMPLE):
        (folder / file.name).write_text(file.read_text())
    for file in (*(REPOSITORY / "dags" / "corpora").glob("*.yaml"), REMOTE, CRAWL):
        (corpora / file.name).write_text(file.read_text())
    return parse(PALIMPSEST_STUDIES=str(folder), PALIMPSEST_CORPORA=str(corpora))


@pytest.fixture(params=["parsed", "served"])
def each(request: pytest.FixtureRequest) -> dict:
    """The shipped Dags, and those with a model server."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def copied(tmp_path: Path) -> dict[str, Path]:
    """Copies of the folders of YAML files that a test may spoil."""
    folders = {}
    for kind in ("corpora", "studies", "loops", "labelled"):
        folders[kind] = tmp_path / kind
        folders[kind].mkdir()
        for file in (REPOSITORY / "dags" / kind).glob("*.yaml"):
            (folders[kind] / file.name).write_text(file.read_text())
    return folders
