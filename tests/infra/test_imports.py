"""Who may import whom: the table of the design, kept by reading every module and by importing the library."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.lake import REPOSITORY

HEAVY = {"airflow", "cosmos", "duckdb", "great_expectations", "mlflow", "numpy", "pandas", "pyarrow", "torch"}
OURS = {"palimpsest", "palimpsest_airflow", "expectations", "training", "dags"}
FORBIDDEN = {
    "plugins/palimpsest": {"airflow", "cosmos", "torch", "great_expectations", "mlflow", "transformers", *OURS}
    - {"palimpsest"},
    "plugins/palimpsest_airflow": {"torch", "great_expectations", "transformers"},
    "expectations": {"airflow", "cosmos", "torch", "transformers", *OURS} - {"expectations", "palimpsest"},
    "training": {"airflow", "cosmos", "great_expectations", *OURS} - {"training", "palimpsest"},
    "training/analysis": {"torch", "transformers"},
    "dags": {"torch", "great_expectations", "transformers"},
}
"""Never, not even inside a function."""
LATE = {
    "plugins/palimpsest_airflow": (HEAVY | {"transformers", "expectations", "training"}) - {"airflow", "cosmos"},
    "dags": (HEAVY | {"transformers", "expectations", "training"}) - {"airflow", "cosmos"},
}
"""Only inside functions: Airflow imports these files over and over."""
NEVER_LOADED = ("airflow", "torch", "great_expectations", "mlflow", "transformers")


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (REPOSITORY / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imports(tree: ast.AST, everywhere: bool) -> Iterator[tuple[int, str]]:
    """Line and module of each import; without ``everywhere`` only of those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."
        elif everywhere or not (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _only_for_types(node)):
            yield from imports(node, everywhere)


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def offences(folder: str, banned: set[str], everywhere: bool) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}:{line} imports {module}"
        for path in python_files(folder)
        for line, module in imports(ast.parse(path.read_text(encoding="utf-8")), everywhere)
        if module.split(".")[0] in banned
    ]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_forbidden_import(folder):
    assert python_files(folder)
    assert offences(folder, FORBIDDEN[folder], everywhere=True) == []


@pytest.mark.parametrize("folder", LATE)
def test_heavy_imports_wait_for_the_task(folder):
    assert offences(folder, LATE[folder], everywhere=False) == []


def test_training_takes_only_the_shared_modules_of_the_library():
    shared = (
        "align",
        "catalog",
        "catalog.speed",
        "choice",
        "config",
        "config.study",
        "lake",
        "mixes",
        "provenance",
        "packing",
        "guard",
        "guard.cloze",
        "guard.experiment",
        "guard.corpus",
        "guard.findings",
        "guard.importance",
        "guard.learned",
        "guard.measure",
        "guard.probe",
        "guard.tail",
        "guard.texts",
        "guard.tokens",
        "guard.trigram",
        "machine",
        "settings",
        "state",
        "table",
        "tokenizer",
        "words",
    )
    allowed = {"palimpsest", *(f"palimpsest.{name}" for name in shared)}
    found = {
        f"{path.relative_to(REPOSITORY)}:{line} imports {module}"
        for path in python_files("training")
        for line, module in imports(ast.parse(path.read_text(encoding="utf-8")), everywhere=True)
        if module.split(".")[0] == "palimpsest" and module not in allowed
    }
    assert found == set()


def test_a_dag_file_imports_no_other():
    names = {path.stem for path in python_files("dags")}
    assert offences("dags", names, everywhere=True) == []


def test_infra_holds_no_python():
    assert python_files("infra") == []


def test_the_checker_sees_what_it_should():
    tree = ast.parse("import torch\ndef f():\n    from airflow.sdk import dag\nif TYPE_CHECKING:\n    import mlflow\n")
    assert [module for _, module in imports(tree, everywhere=True)] == ["torch", "airflow.sdk", "mlflow"]
    assert [module for _, module in imports(tree, everywhere=False)] == ["torch"]


def test_importing_the_library_loads_neither_airflow_nor_torch():
    root = REPOSITORY / "plugins"
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in python_files("plugins/palimpsest")
        if path.name != "__main__.py" and "migrations" not in path.parts  # run by Alembic, not imported
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {NEVER_LOADED!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
