"""Servers are there when they are asked for, and gone afterwards, whoever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import threading
import time
from dataclasses import replace

import httpx
import psutil
import pytest

from palimpsest import cli, serve
from palimpsest.config import ConfigError
from palimpsest.serve import command, leftovers
from palimpsest.serve import folder as folders
from palimpsest.serve import replica as keeping
from tests.palimpsest.serve.conftest import only, processes, until


def replica(number: int = 0) -> dict:
    return serve.status()[0].replicas[number]


def engine() -> psutil.Process:
    return next(process for process in processes() if "engine" in process.cmdline()[3:])


def test_a_server_is_started_found_and_stopped_without_leaving_anything(make, here):
    study = make()
    assert serve.endpoints(study, "tiny", here) == []
    [endpoint] = serve.ensure(study, "tiny", here)
    headers = {"Authorization": f"Bearer {serve.api_key(study.servers['tiny'])}"}
    listed = httpx.get(f"{endpoint.url}/v1/models", headers=headers).json()
    assert listed["data"][0]["id"] == endpoint.model
    assert serve.ensure(study, "tiny", here) == serve.endpoints(study, "tiny", here) == [endpoint]
    assert replica()["starts"] == 1
    assert len(processes()) == 3
    done = serve.stop(study)
    assert done == ["small.tiny: stopped"]
    assert processes() == []
    assert serve.endpoints(study, "tiny", here) == []
    assert serve.stop(study) == []
    log = (only().path / "keeper.log").read_text()
    assert log.count("stopping: killed") == 2  # the engine and the worker, which are deaf to SIGTERM


def test_the_api_key_is_in_no_command_line_and_no_file_others_can_read(make, here):
    study = make()
    serve.ensure(study, "tiny", here)
    key = serve.api_key(study.servers["tiny"])
    assert stat.S_IMODE((folders.base() / "api-key").stat().st_mode) == 0o600
    assert not any(
        key in part for process in psutil.process_iter(["cmdline"]) for part in process.info["cmdline"] or ()
    )
    written = [file for file in only().path.rglob("*") if file.is_file() and key in file.read_text(errors="replace")]
    assert written == []


def test_a_server_inherits_the_hub_token_but_no_password_of_others(make, here, monkeypatch):
    for name in ("HF_TOKEN", "AIRFLOW__CORE__FERNET_KEY", "PALIMPSEST_CATALOG", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    serve.ensure(make(), "tiny", here)
    variables = only().log(0).read_text().split("variables:")[1].split("\n")[0].split()
    assert {"HF_TOKEN", "VLLM_API_KEY", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", leftovers.MARKER} <= set(variables)
    assert not {"AIRFLOW__CORE__FERNET_KEY", "PALIMPSEST_CATALOG", "PYTHONPATH"} & set(variables)


def test_a_killed_api_server_is_back_at_its_port_and_its_engine_was_swept(make, here):
    study = make()
    [endpoint] = serve.ensure(study, "tiny", here)
    before = processes()
    psutil.Process(replica()["pid"]).kill()
    until(lambda: replica()["starts"] == 2 and replica()["state"] == "ready")
    assert not any(leftovers.runs(process) for process in before)
    assert serve.endpoints(study, "tiny", here) == [endpoint]


def test_a_killed_engine_takes_the_server_down_and_both_are_back(make, here):
    serve.ensure(make(), "tiny", here)
    before = processes()
    engine().kill()
    until(lambda: replica()["starts"] == 2 and replica()["state"] == "ready")
    assert not any(leftovers.runs(process) for process in before)


def test_nothing_outlives_a_killed_keeper_and_ensure_starts_again(make, here):
    study = make()
    serve.ensure(study, "tiny", here)
    psutil.Process(only().keeper()).kill()
    until(lambda: not processes(), within_s=10)
    assert serve.status()[0].state == "dead"
    assert serve.endpoints(study, "tiny", here) == []
    assert len(serve.ensure(study, "tiny", here)) == 1


@pytest.mark.parametrize("again", ["ensure", "stop"])
def test_what_outlives_keeper_and_watchdog_is_ended_by_the_next_who_comes(make, here, again):
    study = make()
    serve.ensure(study, "tiny", here)
    keeper = psutil.Process(only().keeper())
    watchdog = next(child for child in keeper.children() if child.pid != replica()["pid"])
    keeper.suspend()  # or it would start another watchdog
    watchdog.kill()
    keeper.kill()
    until(lambda: len(processes()) == 2)  # the engine and its worker; the API server dies with the keeper
    orphans = processes()
    if again == "ensure":
        serve.ensure(study, "tiny", here)
    else:
        assert len([line for line in serve.stop(study) if "killed" in line]) == len(orphans)
    assert not any(leftovers.runs(process) for process in orphans)


def test_a_killed_watchdog_is_replaced(make, here):
    serve.ensure(make(), "tiny", here)
    keeper = psutil.Process(only().keeper())
    watchdog = next(child for child in keeper.children() if child.pid != replica()["pid"])
    watchdog.kill()
    until(lambda: len(keeper.children()) == 2 and watchdog.pid not in [child.pid for child in keeper.children()])
    keeper.kill()
    until(lambda: not processes())


def test_a_server_that_cannot_start_is_given_up_with_the_end_of_its_log(make, here):
    with pytest.raises(ConnectionError, match="status 1 before it was ready(.|\n)*CUDA out of memory"):
        serve.ensure(make(behaviour="crash"), "tiny", here)
    assert (serve.status()[0].state, serve.status()[0].replicas[0]["starts"]) == ("failed", 3)
    assert only().users() == []


def test_wrong_arguments_are_told_after_one_start_and_are_no_weather(make, here):
    with pytest.raises(ConfigError, match="unrecognized arguments: --no-such-thing"):
        serve.ensure(make(behaviour="usage"), "tiny", here)
    assert serve.status()[0].replicas[0]["starts"] == 1


def test_a_start_that_failed_once_is_repeated(make, here):
    assert len(serve.ensure(make(behaviour="second"), "tiny", here)) == 1
    assert replica()["starts"] == 2


def test_a_server_that_never_answers_is_stopped_at_the_deadline(make, here):
    with pytest.raises(ConnectionError, match="not ready within 3 s"):
        serve.ensure(make(behaviour="mute", ready_within_s=3), "tiny", here)
    assert processes() == []


def test_a_server_for_another_model_is_never_ready(make, here):
    with pytest.raises(ConnectionError, match="not ready within 3 s"):
        serve.ensure(make(behaviour="other", ready_within_s=3), "tiny", here)


def test_a_server_nobody_uses_stops_itself_and_comes_back(make, here, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_SERVER_IDLE_S", "4")
    study = make()
    serve.ensure(study, "tiny", here)
    for _ in range(12):
        time.sleep(0.5)
        serve.touch(study, "tiny", here)
    assert replica()["state"] == "ready"
    until(lambda: serve.status()[0].state == "stopped", within_s=30)
    assert processes() == []
    assert len(serve.ensure(study, "tiny", here)) == 1
    assert replica()["state"] == "ready"


def test_studies_that_ask_for_the_same_server_share_it_until_both_have_left(make, here):
    one, other = make(), make(named="other")
    assert serve.ensure(one, "tiny", here) == serve.ensure(other, "tiny", here)
    assert serve.stop(one) == ["small.tiny: goes on for other.tiny"]
    assert len(processes()) == 3
    assert serve.stop(other) == ["other.tiny: stopped"]
    assert processes() == []


def test_a_server_with_other_settings_replaces_the_one_before(make, here):
    study = make()
    [first] = serve.ensure(study, "tiny", here)
    [second] = serve.ensure(make(context=4096), "tiny", here)
    states = sorted(one.state for one in serve.status())
    assert states == ["ready", "stopped"]
    assert serve.endpoints(study, "tiny", here) == [second]
    assert first != second


def test_who_used_a_server_that_was_replaced_or_stopped_does_not_bring_it_back(make, here):
    """Or a task of before a change and one of after it would stop each other's servers in turn, for ever."""
    before, after = make(), make(context=4096)
    serve.ensure(before, "tiny", here)
    found = serve.ensure(after, "tiny", here)
    with pytest.raises(ConnectionError, match="was stopped, or replaced"):
        serve.ensure(before, "tiny", here, wait=False)
    assert serve.ensure(after, "tiny", here, wait=False) == found
    serve.stop(after)
    with pytest.raises(ConnectionError, match="was stopped, or replaced"):
        serve.ensure(after, "tiny", here, wait=False)
    assert [process for one in folders.folders() for process in leftovers.living(one.id)] == []


def test_many_who_ask_at_once_get_one_server(make, here):
    study, found = make(), []
    threads = [threading.Thread(target=lambda: found.append(serve.ensure(study, "tiny", here))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(endpoints == found[0] for endpoints in found)
    assert replica()["starts"] == 1


def test_one_server_per_gpu_and_different_servers_on_different_gpus(make, here, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    two = make(gpus=2)
    endpoints = serve.ensure(two, "tiny", here)
    assert [endpoint.replica for endpoint in endpoints] == [0, 1]
    assert [one["gpus"] for one in serve.status()[0].replicas] == ["3", "5"]
    shown = [psutil.Process(one["pid"]).environ()["CUDA_VISIBLE_DEVICES"] for one in serve.status()[0].replicas]
    assert shown == ["3", "5"]
    third = make(named="third", gpus=1, context=4096)
    serve.ensure(third, "tiny", here)
    assert "7" in [one["gpus"] for status in serve.status() for one in status.replicas]
    with pytest.raises(ConnectionError, match="3: small.tiny"):
        serve.ensure(make(named="fourth", gpus=1, context=2048), "tiny", here)
    serve.stop(two)
    assert len(serve.ensure(make(named="fourth", gpus=1, context=2048), "tiny", here)) == 1


def test_a_replica_that_died_leaves_the_others_alone(make, here, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    serve.ensure(make(gpus=2), "tiny", here)
    others = leftovers.living(only().id, 1)
    psutil.Process(replica(0)["pid"]).kill()
    until(lambda: replica(0)["starts"] == 2 and replica(0)["state"] == "ready")
    assert all(leftovers.runs(process) for process in others)
    assert replica(1)["starts"] == 1


def test_what_runs_already_is_asked_whether_it_is_the_right_one(make, here, model, monkeypatch):
    study = make()
    [endpoint] = serve.ensure(study, "tiny", here)
    settings = {"gpus": None, "arguments": {}, "ready_within_s": 1}
    running = make(endpoints=[endpoint.url], **settings)
    with pytest.raises(ConfigError, match="answers 401; the server wants an API key: .*PALIMPSEST_VLLM_API_KEY$"):
        serve.ensure(running, "tiny", here)
    monkeypatch.setenv("PALIMPSEST_VLLM_API_KEY", "wrong")
    with pytest.raises(ConfigError, match="the key in PALIMPSEST_VLLM_API_KEY is not accepted"):
        serve.ensure(running, "tiny", here)
    connected = make(endpoints=[endpoint.url], connection="gpu-box", **settings)
    with pytest.raises(ConfigError, match=r"used because PALIMPSEST_VLLM_API_KEY_GPU_BOX is not set .*'gpu-box'"):
        serve.ensure(connected, "tiny", here)
    monkeypatch.setenv("PALIMPSEST_VLLM_API_KEY_GPU_BOX", "wrong")
    with pytest.raises(ConfigError, match="password of the Airflow connection 'gpu-box' .*is not accepted"):
        serve.ensure(connected, "tiny", here)
    monkeypatch.setenv("PALIMPSEST_VLLM_API_KEY", serve.api_key(study.servers["tiny"]))
    assert serve.ensure(running, "tiny", here) == [endpoint]
    (model / "config.json").write_text("{ }")
    with pytest.raises(ConfigError, match=f"lists {endpoint.model}, not palimpsest-"):
        serve.ensure(running, "tiny", here)
    with pytest.raises(ConnectionError, match="http://127.0.0.1:9 was not ready within 1 s"):
        serve.ensure(make(endpoints=["http://127.0.0.1:9"], **settings), "tiny", here)


def test_an_unknown_server_is_named(make, here):
    with pytest.raises(ConfigError, match="'tinny' is unknown"):
        serve.ensure(make(), "tinny", here)


def test_one_replica_that_cannot_come_back_does_not_stop_the_others(make, here, model, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    study = make(behaviour="until_broken", gpus=2)
    assert len(serve.ensure(study, "tiny", here)) == 2
    (model / "broken").touch()
    psutil.Process(replica(0)["pid"]).kill()
    until(lambda: replica(0)["state"] == "failed")
    assert [endpoint.replica for endpoint in serve.ensure(study, "tiny", here)] == [1]
    assert "out of memory" in replica(0)["error"]
    psutil.Process(replica(1)["pid"]).kill()
    until(lambda: serve.status()[0].state == "failed")
    assert processes() == []


def test_what_a_server_left_is_removed_after_a_week(make, here):
    serve.ensure(make(), "tiny", here)
    serve.stop(None)
    old, week = only(), 8 * 86_400
    os.utime(old.path / "status.json", (time.time() - week, time.time() - week))
    serve.ensure(make(context=4096), "tiny", here)
    assert not old.path.exists()


def test_a_server_that_hangs_is_started_again(make, here, monkeypatch, tmp_path):
    monkeypatch.setattr(keeping, "SILENT_S", 1.5)
    monkeypatch.setattr(keeping, "LOOK_S", 0.2)
    folder = folders.Folder(folders.base() / "hangs")
    folder.path.mkdir()
    spec = replace(command.specification(make().servers["tiny"], here), id="hangs")
    one = keeping.Replica(folder, spec, 0, "key", lambda: None)

    async def hang() -> int:
        keeps = asyncio.create_task(one.keep())
        await asyncio.wait_for(one.was_ready.wait(), 30)
        hung = one.process.pid
        os.kill(hung, signal.SIGSTOP)
        while one.starts < 2:
            await asyncio.sleep(0.05)
        keeps.cancel()
        return hung

    try:
        hung = asyncio.run(asyncio.wait_for(hang(), 60))
        assert "the server has not answered /health for 1.5 s" in one.error
        assert not psutil.pid_exists(hung)
    finally:
        leftovers.sweep("hangs")


def test_who_touches_a_server_that_was_stopped_does_not_become_its_user_again(make, here):
    study = make()
    serve.ensure(study, "tiny", here)
    user, folder = "small.tiny", only()
    serve.stop(study)
    folder.touch(user)  # as a client does that looked up the folder just before
    assert folder.users() == []
    with pytest.raises(ConnectionError, match="small.tiny was stopped"):
        serve.ensure(study, "tiny", here, wait=False)


def test_stopping_a_study_without_servers_names_those_that_run(make, here, capsys):
    serve.ensure(make(), "tiny", here)
    assert cli.main(["serve", "stop", "smal"]) == 0
    assert capsys.readouterr().out == "no server of 'smal' was running; running: small.tiny\n"


def test_work_that_began_before_a_stop_does_not_bring_the_server_back(make, here):
    """A task whose run a person ended may still be starting when the servers are stopped."""
    study, began = make(), time.time()
    time.sleep(0.05)
    serve.stop("small")
    with pytest.raises(ConnectionError, match="was stopped after this work began"):
        serve.ensure(study, "tiny", here, began=began)
    assert processes_of_all() == []
    assert serve.ensure(study, "tiny", here, began=time.time() + 0.05)
    assert serve.ensure(make("other"), "tiny", here, began=began), "of another study"


def processes_of_all() -> list[psutil.Process]:
    return [process for one in folders.folders() for process in leftovers.living(one.id)]
