"""Tables from tables: runs a selection of the dbt project over published files and writes the marts as Parquet.

Start-up is most of a small run, so the project is parsed once per version of its files (kept in PALIMPSEST_STATE)
and every run gets the parsed manifest; what differs between runs reaches the SQL through vars.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from palimpsest.lake import REPOSITORY, LakeError
from palimpsest.state import state_dir

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

PROJECT = REPOSITORY / "dbt_project"
FLAGS = ["--no-send-anonymous-usage-stats", "--no-version-check", "--log-level", "none", "--log-level-file", "none"]
log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()  # dbt keeps its adapter and flags in module globals


@dataclass(frozen=True)
class NodeResult:
    """One model or test that ran: ``rows`` of a model, failing rows of a test (None where not known)."""

    name: str
    kind: str
    status: str
    seconds: float
    rows: int | None = None
    message: str | None = None

    @property
    def ok(self) -> bool:
        return self.status in {"success", "pass", "warn"}


def build(
    select: str,
    *,
    inputs: Mapping[str, Path | Sequence[Path]],
    variables: Mapping[str, object],
    out: Path,
    threads: int = 2,
    unit_tests: bool = False,
    project: Path = PROJECT,
) -> list[NodeResult]:
    """Models and data tests of ``select``, run; marts are ``<out>/<model>.parquet``. Raises `LakeError` if any fails.

    ``inputs`` become the tables of dbt source ``lake``; only those of the selection are needed. Unit tests check the
    SQL, not the data, so only the test suite asks for them.
    """
    arguments = ["build", "--select", *select.split(), "--threads", str(threads)]
    if not unit_tests:
        arguments += ["--exclude-resource-type", "unit_test"]
    with _one_at_a_time, tempfile.TemporaryDirectory(prefix="palimpsest-dbt-") as scratch:
        workfile = Path(scratch) / "work.duckdb"
        passed = {**variables, "inputs": _files(inputs), "out": str(out), "workfile": str(workfile)}
        arguments += ["--vars", json.dumps(passed, default=str), "--no-write-json"]
        finished = _invoke(arguments, scratch, project, _parsed(project))
        results = [_result(entry, out) for entry in finished]
        failed = [(r, entry) for r, entry in zip(results, finished, strict=True) if not r.ok]
        results = [r for r in results if r.kind != "operation"]
        for result in results:
            log.info("%s", _line(result))
        if failed:
            raise LakeError(_explain(select, failed, project))
    if not results:
        raise LakeError(f"dbt selection '{select}' matches no model; see {project / 'models'} for the names")
    return results


def _files(inputs: Mapping[str, Path | Sequence[Path]]) -> dict[str, list[str]]:
    files = {name: [given] if isinstance(given, Path) else list(given) for name, given in inputs.items()}
    for name, paths in files.items():
        if not paths:
            raise LakeError(f"dbt input '{name}' has no files; publish the dataset it reads first")
        for path in paths:
            if not path.exists():
                raise LakeError(f"dbt input '{name}': {path} is missing; run the stage that publishes it again")
    return {name: [str(path) for path in paths] for name, paths in files.items()}


def _parsed(project: Path) -> Manifest:
    """The parsed project, from PALIMPSEST_STATE if this version of its files was parsed before."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumaro_encoder, extended_mashumuro_decoder
    from dbt.version import installed

    version = installed.to_version_string(skip_matcher=True)
    kept = state_dir() / "dbt" / f"{_digest(project)[:16]}-{version}.msgpack"
    if kept.exists():
        return Manifest.from_msgpack(kept.read_bytes(), decoder=extended_mashumuro_decoder)
    with tempfile.TemporaryDirectory(prefix="palimpsest-dbt-") as scratch:
        manifest = _invoke(["parse", "--no-partial-parse", "--no-write-json"], scratch, project, None)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f".{kept.name}.{secrets.token_hex(4)}")
    partial.write_bytes(manifest.to_msgpack(extended_mashumaro_encoder))
    os.replace(partial, kept)
    return manifest


def _digest(project: Path) -> str:
    found = hashlib.sha256(str(project).encode())
    for file in sorted(project.rglob("*")):
        if file.suffix in {".sql", ".yml", ".py"}:
            found.update(b"\0" + str(file.relative_to(project)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def _invoke(arguments: list[str], scratch: str, project: Path, manifest: Manifest | None):
    from dbt.cli.main import dbtRunner

    places = ["--project-dir", str(project), "--profiles-dir", str(project)]
    places += ["--target-path", f"{scratch}/target", "--log-path", f"{scratch}/log"]
    answer = dbtRunner(manifest=manifest).invoke([*arguments, *places, *FLAGS])
    if answer.exception is not None:
        raise LakeError(f"dbt {arguments[0]}: {answer.exception}") from answer.exception
    return answer.result


def _result(entry, out: Path) -> NodeResult:
    node = entry.node
    kind = str(node.resource_type)
    rows = entry.failures
    if kind == "model" and str(entry.status) == "success" and node.config.materialized == "external":
        rows = pq.read_metadata(out / f"{node.name}.parquet").num_rows
    return NodeResult(node.name, kind, str(entry.status), entry.execution_time, rows, entry.message)


def _line(result: NodeResult) -> str:
    rows = "" if result.rows is None else f"{result.rows:>9,} rows"
    if result.kind != "model":
        rows = rows and rows.replace("rows", "failing")
    return f"{result.kind:<9} {result.name:<56} {result.status:<8} {rows:<17} {result.seconds:6.2f} s"


def _explain(select: str, failed: list, project: Path) -> str:
    lines = [f"dbt build --select {select}: {len(failed)} of its models and tests did not pass"]
    for result, entry in failed:
        if result.status == "skipped":
            lines.append(f"  {result.kind} {result.name}: skipped, something it needs failed")
            continue
        lines.append(
            f"  {result.kind} {result.name} ({project.name}/{entry.node.original_file_path}): {result.message}"
        )
        if result.kind == "test" and entry.node.compiled_code and entry.failures:
            lines += [f"    {row}" for row in _offending(entry.node.compiled_code)]
    return "\n".join(lines)


def _offending(sql: str) -> list[str]:
    """Up to five rows a failed test found, asked of the working file while dbt still holds it open."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    cursor = DuckDBConnectionManager.env().handle().cursor()
    cursor.execute(f"select * from ({sql}) limit 5")
    names = [column[0] for column in cursor.description]
    return [str(dict(zip(names, map(str, row), strict=True))) for row in cursor.fetchall()]
