"""The local stack: processes that end with it, one stack per folder, secrets kept private, and when it has work."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from palimpsest import serve
from palimpsest.config import load_corpus, load_study
from palimpsest.lake import REPOSITORY, Facts, Lake
from palimpsest.serve import leftovers
from palimpsest_airflow.__main__ import main
from palimpsest_airflow.local import command, stack, unchanged
from palimpsest_airflow.local.demo import show_failure
from palimpsest_airflow.local.processes import Processes, alone, need_port
from palimpsest_airflow.local.progress import Display
from palimpsest_airflow.local.runs import Following, RunFailed, Stage
from palimpsest_airflow.local.settings import Refused, Settings
from tests.palimpsest.conftest import make_study  # noqa: F401  a fixture, as the next ones
from tests.palimpsest.serve.conftest import here, make, model  # noqa: F401

TREE = """
import subprocess, sys, time
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], process_group=0)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "state", str(tmp_path / "lake"), 18080, 15000)


def test_stopping_ends_children_in_process_groups_of_their_own_too(tmp_path):
    running = Processes(tmp_path / "processes.json", tmp_path / "logs")
    process = running.start("tree", [sys.executable, "-c", TREE], dict(os.environ), tmp_path)
    while not running.log_tail("tree"):
        time.sleep(0.05)
    child = int(running.log_tail("tree"))
    assert running.alive() == {"tree": process.pid}
    Processes(tmp_path / "processes.json", tmp_path / "logs").stop(grace=0.5)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert process.wait(5) != 0
    assert running.alive() == {}


def test_a_reused_process_id_is_left_alone(tmp_path):
    file = tmp_path / "processes.json"
    file.write_text(json.dumps({"scheduler": {"pid": os.getpid(), "born": psutil.Process().create_time() + 60}}))
    running = Processes(file, tmp_path)
    assert running.alive() == {}
    running.stop(grace=0.1)


def test_a_second_stack_in_the_same_folder_is_refused_by_name(tmp_path):
    refused = pytest.raises(Refused, match=f"process {os.getpid()} .* PALIMPSEST_STATE")
    with alone(tmp_path / "lock"), refused, alone(tmp_path / "lock"):
        pass
    with alone(tmp_path / "lock"):
        pass


def test_what_a_killed_demo_left_running_is_stopped_and_not_taken_for_a_whole_stack(settings, monkeypatch):
    running = stack.processes(settings)
    settings.home.mkdir(parents=True)
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    leftover = running.start("scheduler", sleeper, dict(os.environ), settings.state)
    monkeypatch.setattr(stack, "start_components", lambda settings, running: (_ for _ in ()).throw(Refused("fresh")))
    monkeypatch.setattr(stack, "Api", lambda settings: pytest.fail("the leftover was used"))
    with pytest.raises(Refused, match="fresh"), stack.running_stack(settings):
        pass
    assert leftover.wait(5) != 0
    assert running.recorded() == {}


def test_a_busy_port_is_named_with_the_setting_to_change():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(Refused, match=f"port {port} is taken .*PALIMPSEST_AIRFLOW_PORT"):
            need_port(port, "PALIMPSEST_AIRFLOW_PORT")


def test_the_login_is_made_once_and_readable_by_its_owner_only(settings):
    password = settings.password
    again = Settings(settings.state, settings.lake, 1, 2)
    assert again.password == password
    assert again.secrets == settings.secrets
    for file in (settings.passwords_file, settings.home / "secrets.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_processes_get_no_telemetry_and_nothing_outside_the_state_folder(settings):
    environment = settings.environment()
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["GX_ANALYTICS_ENABLED"] == "false"
    for key in ("AIRFLOW_HOME", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__LOGGING__BASE_LOG_FOLDER"):
        assert str(settings.state) in environment[key]
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"


def test_a_port_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("PALIMPSEST_MLFLOW_PORT", "http")
    with pytest.raises(Refused, match="PALIMPSEST_MLFLOW_PORT is 'http'"):
        Settings.from_env()


def test_reset_deletes_what_is_ours_and_refuses_a_folder_with_anything_else(settings, capsys):
    Lake(settings.lake).publish("studies/demo/report", lambda directory: Facts())
    assert settings.password
    (settings.state / "diary.txt").write_text("mine")
    with pytest.raises(Refused, match=r"diary.txt"):
        stack.reset(settings)
    assert Path(settings.lake).exists()
    (settings.state / "diary.txt").unlink()
    stack.reset(settings)
    assert not Path(settings.lake).exists()
    assert not settings.state.exists()


@pytest.mark.parametrize("end", [stack.down, stack.reset], ids=["down", "reset"])
def test_what_ends_the_stack_ends_its_model_servers(settings, here, make, end):  # noqa: F811
    serve.ensure(make(), "tiny", here)
    (one,) = serve.status()
    assert leftovers.living(one.id)
    end(settings)
    assert leftovers.living(one.id) == []


@pytest.mark.parametrize("spoil", ["study", "source", "report"])
def test_the_demo_has_work_again_when_an_input_or_the_report_changes(tmp_path, lake, monkeypatch, spoil):
    folder = tmp_path / "studies"
    folder.mkdir()
    file = folder / "demo.yaml"
    file.write_text((REPOSITORY / "dags" / "studies" / "demo.yaml").read_text())
    corpus, study = load_corpus("sample"), load_study(file)
    source = tmp_path / "pages.warc.gz"
    source.write_bytes(b"one")
    corpus = corpus.model_copy(update={"source": corpus.source.model_copy(update={"files": [str(source)]})})

    def write(directory: Path) -> Facts:
        (directory / "report.html").write_text("fine")
        return Facts()

    published = lake.publish("studies/demo/report", write)
    memory, wanted = tmp_path / "demo.json", unchanged.fingerprint([corpus], study)
    unchanged.remember(memory, wanted, published)
    assert unchanged.remembered(memory, unchanged.fingerprint([corpus], study), lake).uri == published.uri
    if spoil == "study":
        file.write_text(file.read_text() + "\n# thought again\n")
    elif spoil == "source":
        source.write_bytes(b"two")
    else:
        published.file("report.html").write_text("spoilt")
    assert unchanged.remembered(memory, unchanged.fingerprint([corpus], study), lake) is None


def test_airflows_command_line_gets_the_environment_of_this_stack(settings, monkeypatch):
    with pytest.raises(Refused, match="no Airflow database in .*make demo"):
        stack.airflow(settings, ["dags", "list"])
    monkeypatch.setattr(stack.databases, "ready", lambda _: True)
    code = "import os, sys; sys.exit(len(sys.argv) + (os.environ['AIRFLOW_HOME'] == sys.argv[1]))"
    monkeypatch.setattr(stack, "COMMAND", [sys.executable, "-c", code])
    assert stack.airflow(settings, [str(settings.home), "--two"]) == 4


def test_a_command_that_sqlite_refused_is_run_again(tmp_path, monkeypatch):
    """It reads, another process writes, and it writes: refused at once, twice."""
    monkeypatch.setattr(command, "PAUSE_S", 0)
    file, seen = f"sqlite:///{tmp_path / 'airflow.db'}", []
    ours, other = create_engine(file), create_engine(file)
    with other.begin() as writing:
        writing.execute(text("pragma journal_mode = wal"))
        writing.execute(text("create table runs (name text)"))

    def run():
        with ours.begin() as session, session.begin_nested():
            seen.append(session.scalar(text("select count(*) from runs")))
            if len(seen) < 3:
                with other.begin() as writing:
                    writing.execute(text("insert into runs values ('theirs')"))
            session.execute(text("insert into runs values ('ours')"))

    command.until_free(run)
    with other.connect() as reading:
        assert list(reading.scalars(text("select name from runs"))) == ["theirs", "theirs", "ours"]
    assert seen == [0, 1, 2]


def test_another_error_of_the_database_is_raised_at_once(tmp_path):
    calls = []

    def run():
        calls.append(1)
        with create_engine(f"sqlite:///{tmp_path / 'airflow.db'}").begin() as session:
            session.execute(text("insert into runs values ('ours')"))

    with pytest.raises(OperationalError, match="no such table"):
        command.until_free(run)
    assert len(calls) == 1


def test_a_wrong_study_file_is_one_message(settings, tmp_path, monkeypatch, capsys):
    (tmp_path / "demo.yaml").write_text(
        (REPOSITORY / "dags/studies/demo.yaml").read_text().replace("shards:", "shard:")
    )
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path))
    monkeypatch.setenv("PALIMPSEST_STATE", str(settings.state))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["demo"]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert said.startswith(f"{tmp_path}/demo.yaml: shard: unknown key; did you mean 'shards'?")


def test_a_failed_task_is_shown_with_the_error_raised_not_with_its_cause(settings):
    console = Console(file=io.StringIO(), width=200)
    chain = [
        {"exc_type": "OSError", "exc_value": "lake /x is not writable. Set PALIMPSEST_LAKE to a writable folder"},
        {"exc_type": "OSError", "exc_value": "[Errno 30] /x"},
    ]
    log = [{"timestamp": "2026-10-01T00:00:00Z", "event": "Task failed with exception", "error_detail": chain}]
    show_failure(console, RunFailed("corpus_x", "r", {"task_id": "extract", "map_index": -1}, log), settings)
    assert "OSError: lake /x is not writable. Set PALIMPSEST_LAKE" in console.file.getvalue()
    assert "[Errno 30]" not in console.file.getvalue()


def test_without_a_terminal_progress_is_one_line_per_event():
    out = io.StringIO()
    display = Display({("corpus_sample", "extract"): (1, 1), ("study_demo", "train"): (14, 2)}, Console(file=out))
    seen = Following(stages={("corpus_sample", "extract"): Stage("corpus_sample", "extract", 1, done=1, seconds=5.0)})
    with display.shown():
        display.update(seen)
        display.update(seen)
        seen.stages["study_demo", "train"] = Stage("study_demo", "train", 14, done=2, running=2, seconds=20.0)
        display.update(seen)
    first, second = out.getvalue().splitlines()
    assert "corpus extract" in first
    assert "1/1" in first
    assert "study train" in second
    assert "2/14" in second
    assert "left" in second


def test_the_scheduler_preloads_libraries_only_so_that_edits_take_effect():
    loaded = "import sys, palimpsest_airflow.local.warm; print([m for m in sys.modules if m.startswith('palimpsest.')])"
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}"}
    done = subprocess.run([sys.executable, "-c", loaded], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_interrupted_demo_leaves_no_process_behind(server, tmp_path):
    """Its databases are made by then, so what is interrupted is the start of all three components."""
    own = Settings(tmp_path / "state", str(tmp_path / "lake"), server.settings.mlflow_port, 15000)
    environment = own.environment()
    for name in ("airflow.db", "schema"):
        (own.home / name).write_bytes((server.settings.home / name).read_bytes())
    environment["PALIMPSEST_AIRFLOW_PORT"] = str(own.airflow_port)
    demo = subprocess.Popen(
        [sys.executable, "-m", "palimpsest_airflow", "demo"],
        env=environment,
        cwd=REPOSITORY,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run behind a '&'
    )
    running = Processes(own.home / "processes.json", own.logs)
    deadline = time.monotonic() + 60
    while len(running.alive()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    sessions = set(running.alive().values())
    assert len(sessions) == 3
    time.sleep(2)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    assert [pid for pid in psutil.pids() if psutil.pid_exists(pid) and os.getsid(pid) in sessions] == []
