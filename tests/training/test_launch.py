"""Runs in two real processes that torchrun starts, over gloo."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from palimpsest.lake import REPOSITORY, Lake, NotPublished
from tests.training.conftest import make_study
from training import pretrain, track
from training.run import open_feed

RUN = "simple-s0"
TIED = {"layers": 2, "width": 32, "mlp": 64, "heads": 2, "tied": True}


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """Two processes, at most one GPU: they share the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


class Recorder:
    run_id = None

    def __init__(self):
        self.points = {}

    def log_metrics(self, metrics, step):
        self.points[step] = dict(metrics)


def planned(small, study, name=RUN):
    return next(run for run in pretrain.plan_runs(study, small.mixes) if run["run"] == name)


def train(small, lake, study, name=RUN, **options):
    run = planned(small, study, name)
    return pretrain.train(study, lake, tokens=small.tokens, mixes=small.mixes, run=run, **options)


def curve(published):
    return pq.read_table(published.file("curve.parquet")).to_pydict()


def settings(**change):
    """Dropout is left out: each process drops features of its own."""
    return make_study(**{"batch": 5, "block": 8} | change)


@pytest.fixture
def odd(small, lake):
    """Batches of 5 do not divide by 2: the mixes are planned again for them."""
    from dataclasses import replace

    from tests.training.conftest import publish_mixes

    study = settings()
    parts = pq.read_table(small.mixes.file("megadoc_parts.parquet"))
    return replace(small, study=study, mixes=publish_mixes(lake, study, parts))


@pytest.mark.parametrize(
    "change",
    [{}, {"micro_tokens": 66, "loss_on": "real", "attention": "megadocs"},
     {"parallel": "fsdp", "micro_tokens": 66, "model": TIED}],
    ids=["ddp", "ddp in parts, masked", "fsdp in parts, tied"],
)  # fmt: skip
def test_two_processes_reach_the_losses_of_one(odd, tmp_path, change):
    one = train(odd, Lake(tmp_path / "one"), settings(**change))
    recorder, seen = Recorder(), []
    two = train(
        odd, Lake(tmp_path / "two"), settings(**change, processes=2),
        tracker=recorder, progress=lambda *step: seen.append(step),
    )  # fmt: skip
    expected, found = curve(one), curve(two)
    for column in ("train_loss", "gradient_norm"):
        assert found[column] == pytest.approx(expected[column], rel=1e-4)
    about = [json.loads(run.file("evaluation.json").read_text()) for run in (one, two)]
    assert about[1]["losses"] == pytest.approx(about[0]["losses"], rel=1e-4)
    assert about[1]["exposures"] == about[0]["exposures"]
    assert (about[0]["processes"], about[1]["processes"]) == (1, 2)
    assert [step for step, *_ in seen] == found["step"]
    assert recorder.points[len(seen)]["iid_loss"] == about[1]["losses"]["iid"]


def test_workers_take_a_study_whose_server_runs_already(odd, tmp_path):
    """Such a server says nothing of 'gpus', and is not to be told the default on the way either."""
    server = {"model": "org/name", "revision": "0" * 40, "endpoints": ["http://host:8000"]}
    content = settings(processes=2).model_dump(mode="json", exclude_unset=True)
    study = type(odd.study).model_validate({**content, "servers": {"elsewhere": server}})
    assert train(odd, Lake(tmp_path), study).extra["losses"]


RECORD = """
import json, os, sys
from pathlib import Path
from training import launch
from training.data import Sequences
at = Sequences.at
seen = []
def recorded(self, step, rows=slice(None)):
    batch = slice(step * self.batch, (step + 1) * self.batch)
    seen.append([step, self.stream[batch][rows].tolist(), self.window[batch][rows].tolist()])
    return at(self, step, rows)
Sequences.at = recorded
launch._work(sys.argv[1])
Path(sys.argv[1]).with_name(f"seen-{os.environ['RANK']}.json").write_text(json.dumps(seen))
"""


def test_however_many_processes_a_step_has_the_same_windows(odd, lake, tmp_path):
    """What each of 3 real processes reads from the streams, put together, is what one run is dealt."""
    whole = open_feed(settings(), odd.tokens, planned(odd, settings())).sequences
    steps = [slice(step * 5, (step + 1) * 5) for step in range(len(whole))]
    dealt = [[whole.stream[rows].tolist(), whole.window[rows].tolist()] for rows in steps]
    processes = 3
    (tmp_path / "record.py").write_text(RECORD)
    order = write_order(odd, lake, settings(processes=processes), tmp_path / "worker")
    done = torchrun(processes, tmp_path / "record.py", order)
    assert done.returncode == 0, done.stderr
    seen = [json.loads(order.with_name(f"seen-{rank}.json").read_text()) for rank in range(processes)]
    assert dealt == [[sum((part[kind] for part in parts), []) for kind in (1, 2)] for parts in zip(*seen, strict=True)]


def write_order(odd, lake, study, folder):
    """What `launch` tells its workers, for those that a test starts itself."""
    folder.mkdir()
    order = {
        "study": study.model_dump(mode="json"), "lake": lake.root, "tokens": {"lake": lake.root, **odd.tokens.ref},
        "run": planned(odd, study), "directory": str(folder), "mlflow_run_id": None, "nodes": 1,
    }  # fmt: skip
    (folder / "order.json").write_text(json.dumps(order))
    return folder / "order.json"


def torchrun(processes, script, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += [str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180)


def environment():
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}", "OMP_NUM_THREADS": "1"}


def test_divergence_in_the_workers_is_raised_here_with_their_words(odd, lake):
    study = settings(processes=2, optimizer={"lr": 1e6, "clip": 1e9, "warmup": 0.0})
    with pytest.raises(ValueError, match=rf"run {RUN} diverged at step \d+: .*documents of its batch: d\d"):
        train(odd, lake, study)
    with pytest.raises(NotPublished):
        lake.latest(f"studies/small/runs/{RUN}")


def workers(of: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(of).children(recursive=True) if "training.launch" in child.cmdline()]


def test_a_killed_worker_is_weather_and_the_run_goes_on_where_it_was(odd, lake, tmp_path, caplog):
    study = settings(processes=2, checkpoint_seconds=0)
    killed = []

    def kill(step, steps, loss):
        if step == 12:
            killed.append(workers(os.getpid())[-1])
            killed[0].kill()

    with pytest.raises(ConnectionError, match=rf"run {RUN}: a process ended by SIGKILL"):
        train(odd, lake, study, progress=kill)
    assert workers(os.getpid()) == []
    seen = []
    with caplog.at_level(logging.WARNING):  # by one process, from the checkpoint of two
        again = train(odd, lake, settings(), progress=lambda step, *_: seen.append(step))
    assert seen[0] >= 10  # the checkpoint of the last step may be half written
    assert "made with processes 2, now 1: equal up to rounding" in caplog.text
    is_near(curve(again), curve(train(odd, Lake(tmp_path / "straight"), settings())))


def is_near(found, expected):
    """Equal losses at every step and on every held-out set, but for the rounding of another order of summation."""
    for column, values in expected.items():
        losses, wanted = ([value for value in of if value is not None] for of in (found[column], values))
        assert losses == pytest.approx(wanted, rel=1e-4), column


TWO_VIEWS = """
import os, sys
from training import launch
launch._work(sys.argv[1 + int(os.environ["RANK"])])
"""


@pytest.fixture
def views(odd, lake, tmp_path):
    """A run cut off after step 10, its lake as each of two machines sees it, and the start of a process on both."""
    study = settings(checkpoint_seconds=0)

    def cut(step, steps, loss):
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(odd, lake, study, progress=cut)
    seen = [lake, Lake(shutil.copytree(lake.base, tmp_path / "second"))]

    def start():
        (tmp_path / "work.py").write_text(TWO_VIEWS)
        orders = [write_order(odd, own, study, tmp_path / f"rank-{rank}") for rank, own in enumerate(seen)]
        return torchrun(2, tmp_path / "work.py", *orders)

    return [newest(own) for own in seen], start


def newest(lake):
    found = sorted(Path(lake.base).glob(f"studies/small/runs/{RUN}/checkpoints/*/step-*"))
    assert [folder.name for folder in found] == ["step-000000008", "step-000000009"]
    return found[-1]


def test_a_checkpoint_that_one_process_cannot_read_stops_them_all(views):
    """Else one would go on from step 9, the other from step 8, and their gradients be added up."""
    (_, second), start = views
    with (second / "state.safetensors").open("r+b") as state:
        state.write(b"damaged!")
    done = start()
    assert done.returncode != 0
    said = rf"run {RUN}: process 1 of 2 cannot go on from studies/\S+/step-000000009, which process 0 found whole \("
    assert len(re.findall(rf"ConnectionError: {said}.*{second} is damaged", done.stderr)) == 2, done.stderr


def test_all_processes_go_on_from_the_checkpoint_that_the_first_sees(views, odd, tmp_path):
    """The first sees a shared folder as it was a step ago, the second as it is."""
    (first, _), start = views
    shutil.rmtree(first)
    done = start()
    assert done.returncode == 0, done.stderr
    assert f"{RUN}: goes on after step 8 of" in done.stderr
    found = pq.read_table(tmp_path / "rank-0" / "curve.parquet").to_pydict()
    is_near(found, curve(train(odd, Lake(tmp_path / "straight"), settings())))


def test_fsdp_checkpoints_hold_the_whole_model_and_are_exact(odd, lake, tmp_path):
    study = settings(processes=2, parallel="fsdp", checkpoint_seconds=0, precision="bf16")

    def cut(step, steps, loss):
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(odd, lake, study, progress=cut)
    assert workers(os.getpid()) == [], "stopped with the process that waited for them"
    seen = []
    again = train(odd, lake, study, progress=lambda step, *_: seen.append(step))
    assert seen[0] >= 8  # the checkpoint of the last step may be half written
    straight = train(odd, Lake(tmp_path / "straight"), study)
    assert curve(again) == curve(straight)
    weights = [run.file("model/model.safetensors").read_bytes() for run in (again, straight)]
    assert weights[0] == weights[1]


def test_workers_end_when_the_process_that_waits_for_them_is_killed(odd, lake, tmp_path):
    study = settings(processes=2, checkpoint_seconds=0)
    (tmp_path / "study.json").write_text(study.model_dump_json())
    from tests.training.test_checkpoint import DRIVER

    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, lake.root, str(tmp_path / "study.json"), RUN],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child.stdout.readline()
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) >= 3
    child.kill()
    child.wait()
    child.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_torchrun_by_hand_trains_publishes_and_tracks_once(odd, lake, store, tmp_path, monkeypatch):
    import yaml

    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "sample.yaml").touch()
    study = settings().model_dump(mode="json") | {"judging": {"facts": 0}}  # its split has no text to ask about
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setenv("PALIMPSEST_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("PALIMPSEST_STUDIES", str(tmp_path))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "training", "train", "small", RUN]
    for _ in range(2):  # the second time it is there already
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("studies/small/runs/simple-s0/") == 1
    found = json.loads(lake.latest(f"studies/small/runs/{RUN}").file("evaluation.json").read_text())
    assert found["processes"] == 2
    (parent,) = [run for run in _tracked() if run.info.run_name == "by hand"]
    (run,) = [run for run in _tracked() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert run.info.run_name == RUN and run.data.metrics["iid_loss"] == found["losses"]["iid"]


def _tracked() -> list:
    from mlflow import MlflowClient

    client = MlflowClient(track.tracking_uri())
    return list(client.search_runs([client.get_experiment_by_name("small").experiment_id]))
