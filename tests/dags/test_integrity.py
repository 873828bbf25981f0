"""What every Dag must have, and what a broken corpus or study file does to the others."""

from __future__ import annotations

import re

from palimpsest.cli import main
from palimpsest.config import load_loop
from palimpsest.lake import REPOSITORY
from palimpsest_airflow.local.pools import pools
from tests.dags.conftest import EXAMPLE

HEAVY = {"torch", "duckdb", "pandas", "mlflow", "great_expectations", "dbt", "scipy", "transformers", "matplotlib"}


def tasks_of(dag: dict) -> list[dict]:
    return [task["__var"] for task in dag["tasks"]]


def all_tasks(parsed: dict) -> list[tuple[str, dict]]:
    return [(name, task) for name, dag in parsed["dags"].items() for task in tasks_of(dag)]


def with_partial(task: dict) -> dict:
    """A mapped task keeps what its instances share under ``partial_kwargs``."""
    return {**task, **task.get("partial_kwargs", {})}


def shipped() -> set[str]:
    files = {f"corpus_{p.stem}" for p in (REPOSITORY / "dags" / "corpora").glob("*.yaml")}
    files |= {f"study_{p.stem}" for p in (REPOSITORY / "dags" / "studies").glob("*.yaml")}
    files |= {f"labelled_{p.stem}" for p in (REPOSITORY / "dags" / "labelled").glob("*.yaml")}
    loops = [load_loop(p) for p in (REPOSITORY / "dags" / "loops").glob("*.yaml")]
    files |= {f"loop_{loop.name}" for loop in loops} | {f"study_{study}" for loop in loops for study in loop.studies}
    return files | {"testbed_digits", "testbed_docs", "testbed_web", "testbed_translations"}


def test_every_file_becomes_a_dag_without_import_errors(parsed):
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == shipped()


def test_dags_whose_data_is_not_there_are_read_all_the_same(parse, tmp_path):
    found = parse(PALIMPSEST_DATA=str(tmp_path / "nowhere"))
    assert found["errors"] == {}
    assert set(found["dags"]) == shipped()


def test_reading_the_dags_loads_no_heavy_library(each):
    assert HEAVY & set(each["modules"]) == set()


def test_every_dag_says_what_it_does_and_what_to_do_when_it_is_red(each):
    for dag in each["dags"].values():
        for part in ("**What**", "**Reads**", "**Writes**", "**When it is red**"):
            assert part in dag["doc_md"]
        assert not re.search(r"[{}]", dag["doc_md"]), "an unfilled placeholder"
        assert dag["description"]
        assert dag["tags"]


def test_no_dag_catches_up_by_itself_or_runs_twice_at_a_time(each):
    for dag in each["dags"].values():
        assert dag.get("catchup", False) is False
        assert dag["max_active_runs"] == 1


def test_every_task_has_an_owner_a_doc_retries_and_a_pool_that_exists(each):
    known = {"default_pool", *pools()}
    shared = {name: dag.get("default_args", {}).get("__var", {}) for name, dag in each["dags"].items()}
    for dag_id, task in all_tasks(each):
        found = {**shared[dag_id], **with_partial(task)}
        assert found["owner"] not in ("", "airflow"), task["task_id"]
        assert found["retries"] >= 1, task["task_id"]
        assert found.get("has_retry_policy") or found.get("retry_policy"), task["task_id"]
        assert found.get("pool", "default_pool") in known, task["task_id"]
        assert found.get("doc_md"), task["task_id"]


def test_rows_of_mapped_tasks_have_names(each):
    mapped = [(dag_id, task) for dag_id, task in all_tasks(each) if task.get("_is_mapped")]
    names = {re.sub(r"\d+$", "N", task["task_id"]) for _, task in mapped}
    assert {"generate", "train"} <= names <= {"generate", "train", "judge", "search.train_N", "measure"}
    for _, task in mapped:
        assert with_partial(task).get("map_index_template")


def test_every_asset_a_study_waits_for_is_published_by_a_corpus(parsed):
    produced = {
        outlet["__var"]["name"] for _, task in all_tasks(parsed) for outlet in with_partial(task).get("outlets", [])
    }
    consumed = set()
    for dag in parsed["dags"].values():
        condition = dag["timetable"]["__var"].get("asset_condition")
        consumed |= {asset["name"] for asset in (condition or {}).get("objects", [])}
    assert consumed == {"corpus_sample"}
    assert consumed <= produced


def test_the_example_of_a_study_with_a_model_server_is_a_valid_file(capsys):
    assert main(["validate", str(EXAMPLE)]) == 0
    assert "valid study 'rephrase_vllm'" in capsys.readouterr().out


def test_a_broken_file_shows_as_import_error_and_leaves_the_other_dags(parse, copied):
    broken = copied["studies"] / "broken.yaml"
    broken.write_text((copied["studies"] / "demo.yaml").read_text().replace("name: demo", "name: broken\nmixez: {}"))
    (copied["corpora"] / "unreadable.yaml").write_text("name: [")
    cron = (copied["corpora"] / "sample.yaml").read_text().replace("name: sample", "name: never")
    (copied["corpora"] / "never.yaml").write_text(cron.replace('"@daily"', '"every day"'))
    found = parse(PALIMPSEST_CORPORA=str(copied["corpora"]), PALIMPSEST_STUDIES=str(copied["studies"]))
    assert set(found["dags"]) == shipped()
    (message,) = found["errors"].values()
    assert f"{broken}: mixez: unknown key; did you mean 'mixes'?" in message
    assert f"{copied['corpora'] / 'unreadable.yaml'}: not readable as YAML" in message
    assert "never.yaml: schedule: 'every day' is not a cron expression" in message


def test_a_study_may_also_run_by_the_clock_or_by_hand(parse, copied):
    content = (copied["studies"] / "demo.yaml").read_text()
    for name, schedule in (("weekly", '"0 6 * * 1"'), ("bare", "manual")):
        changed = content.replace("name: demo", f"name: {name}").replace(
            "schedule: on_corpora", f"schedule: {schedule}"
        )
        (copied["studies"] / f"{name}.yaml").write_text(changed)
    dags = parse(PALIMPSEST_CORPORA=str(copied["corpora"]), PALIMPSEST_STUDIES=str(copied["studies"]))["dags"]
    assert dags["study_weekly"]["timetable"]["__var"]["expression"] == "0 6 * * 1"
    assert dags["study_weekly"]["start_date"]
    assert dags["study_bare"]["timetable"]["__type"].endswith("NullTimetable")
