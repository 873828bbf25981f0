"""dbt runs that meet nobody, say what failed, and write the same bytes again."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from palimpsest import warehouse
from palimpsest.lake import REPOSITORY, LakeError
from palimpsest_airflow.local import dbt_docs

FILES = {
    "models/sources.yml": """
version: 2
sources:
  - name: lake
    schema: lake
    tables: [{name: numbers}, {name: names}]
models:
  - name: doubled
    columns: [{name: id, data_tests: [unique]}]
unit_tests:
  - name: twice_is_double
    model: doubled
    given:
      - input: source('lake', 'numbers')
        rows: [{id: 3, label: x}]
    expect:
      rows: [{id: 3, label: x, double: 6}]
""",
    "models/marts/doubled.sql": (
        "select id, label, id * {{ var('factor', 2) }} as double from {{ source('lake', 'numbers') }} order by id"
    ),
    "models/marts/named.sql": "select * from {{ source('lake', 'names') }}",
    "models/marts/broken.sql": "select no_such_column from {{ ref('doubled') }}",
    "models/marts/after_broken.sql": "select * from {{ ref('broken') }}",
}


NUMBERS = "select i as id, 'row ' || i as label from range(5) t(i)"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dbt") / "small_project"
    for name in ("profiles.yml", "macros/inputs.sql", "macros/external.sql"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "dbt_project" / name, folder / name)
    (folder / "dbt_project.yml").write_text(
        "name: small\nversion: '1.0'\nprofile: palimpsest\non-run-start: ['{{ open_inputs() }}']\n"
        "models: {small: {marts: {+materialized: external}}}\n"
    )
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def parsed(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def build(project, parsed, state, tmp_path, monkeypatch):
    """``build(select, sql of numbers)`` into a fresh folder."""
    monkeypatch.setenv("PALIMPSEST_STATE", str(parsed))
    made = iter(range(1_000))

    def run(select, numbers=NUMBERS, variables=None, **options):
        out = tmp_path / f"out{next(made)}"
        out.mkdir()
        inputs = {"numbers": tmp_path / "numbers.parquet"}
        if numbers:
            duckdb.sql(f"copy ({numbers}) to '{inputs['numbers']}' (format parquet)")
        results = warehouse.build(select, inputs=inputs, variables=variables or {}, out=out, project=project, **options)
        return results, out

    return run


def test_marts_are_parquet_and_each_node_is_reported(build, caplog):
    caplog.set_level(logging.INFO, logger="palimpsest.warehouse")
    results, out = build("doubled")
    assert [(r.kind, r.name, r.status, r.rows) for r in results] == [
        ("model", "doubled", "success", 5),
        ("test", "unique_doubled_id", "pass", 0),
    ]
    assert pq.read_table(out / "doubled.parquet").column("double").to_pylist() == [0, 2, 4, 6, 8]
    assert [line.split()[:2] for line in caplog.messages] == [["model", "doubled"], ["test", "unique_doubled_id"]]


def test_variables_differ_from_run_to_run_with_one_parse(build, parsed):
    _, first = build("doubled", variables={"factor": 3})
    kept = {file: file.stat().st_mtime_ns for file in parsed.rglob("*.msgpack")}
    _, second = build("doubled", variables={"factor": 5})
    assert pq.read_table(first / "doubled.parquet").column("double").to_pylist()[1] == 3
    assert pq.read_table(second / "doubled.parquet").column("double").to_pylist()[1] == 5
    assert {file: file.stat().st_mtime_ns for file in parsed.rglob("*.msgpack")} == kept != {}


def test_the_same_rows_give_the_same_bytes_on_any_number_of_threads(build):
    many = "select (i * 7919) % 300000 as id, 'row ' || i as label from range(300000) t(i)"
    _, one = build("doubled", many, threads=1)
    _, four = build("doubled", many, threads=4)
    assert (one / "doubled.parquet").read_bytes() == (four / "doubled.parquet").read_bytes()
    ids = pq.read_table(one / "doubled.parquet").column("id").to_pylist()
    assert ids == sorted(ids)


def test_an_empty_mart_has_columns_and_no_rows(build):
    _, out = build("doubled", "select 1 as id, 'x' as label where false")
    table = pq.read_table(out / "doubled.parquet")
    assert (table.num_rows, table.column_names) == (0, ["id", "label", "double"])


def test_a_failed_test_shows_offending_rows(build):
    with pytest.raises(LakeError) as failure:
        build("doubled", "select i // 2 as id, 'row ' || i as label from range(20) t(i)")
    message = str(failure.value)
    assert "dbt build --select doubled: 1 of its models and tests did not pass" in message
    assert "test unique_doubled_id (small_project/models/sources.yml): Got 10 results" in message
    assert message.count("'n_records': '2'") == 5


def test_a_failed_model_is_named_with_what_it_skips(build):
    with pytest.raises(LakeError, match=r"model broken \(small_project/models/marts/broken\.sql\)") as failure:
        build("doubled+ broken+")
    assert "no_such_column" in str(failure.value)
    assert "model after_broken: skipped, something it needs failed" in str(failure.value)


def test_only_the_inputs_of_the_selection_are_needed(build):
    build("doubled")
    with pytest.raises(LakeError, match=r"model named (.|\n)*Table with name names does not exist"):
        build("named")


def test_a_missing_or_empty_input_is_named(tmp_path, project, state):
    with pytest.raises(LakeError, match="dbt input 'numbers': .*gone.parquet is missing"):
        warehouse.build("doubled", inputs={"numbers": tmp_path / "gone.parquet"}, variables={}, out=tmp_path)
    with pytest.raises(LakeError, match="dbt input 'numbers' has no files"):
        warehouse.build("doubled", inputs={"numbers": []}, variables={}, out=tmp_path)


def test_a_selection_that_matches_nothing_is_an_error(build):
    with pytest.raises(LakeError, match="dbt selection 'nonsense' matches no model"):
        build("nonsense")


def test_unit_tests_run_only_when_asked(build):
    assert "unit_test" not in {r.kind for r in build("doubled")[0]}
    assert ("twice_is_double", "pass") in {(r.name, r.status) for r in build("doubled", unit_tests=True)[0]}


def test_an_unparsable_project_says_where(project, tmp_path, state):
    broken = tmp_path / "broken_project"
    shutil.copytree(project, broken)
    (broken / "models/marts/wrong.sql").write_text("select * from {{ ref('nobody') }}")
    with pytest.raises(LakeError, match="dbt parse: (.|\n)*nobody"):
        warehouse.build("doubled", inputs={}, variables={}, out=tmp_path, project=broken)


def test_processes_at_once_do_not_meet_and_nothing_is_left_behind(build, project, parsed, tmp_path):
    script = (
        "import sys; from pathlib import Path; from palimpsest import warehouse\n"
        "numbers, out, project = map(Path, sys.argv[1:])\n"
        "warehouse.build('doubled', inputs={'numbers': numbers}, variables={}, out=out, project=project)\n"
    )
    before = sorted(project.rglob("*"))
    build("doubled")
    out = tmp_path / "other"
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script, str(tmp_path / "numbers.parquet"), str(out), str(project)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE) as other:
        while other.poll() is None:
            _, mine = build("doubled", numbers=None)
        assert (other.stderr.read().decode(), other.returncode) == ("", 0)
    assert (mine / "doubled.parquet").read_bytes() == (out / "doubled.parquet").read_bytes()
    assert sorted(project.rglob("*")) == before
    assert not list(tmp_path.glob("palimpsest-dbt-*"))


def test_the_projects_documentation_is_written_once_for_every_version_of_it(project, tmp_path, monkeypatch):
    monkeypatch.setattr(dbt_docs, "PROJECT", project)
    page = dbt_docs.write(tmp_path)
    assert "after_broken" in page.read_text()
    page.write_text("as it was")
    assert dbt_docs.write(tmp_path).read_text() == "as it was"
    (tmp_path / "made_of").write_text("an older project")
    assert "after_broken" in dbt_docs.write(tmp_path).read_text()
