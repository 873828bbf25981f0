from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaForCausalLM

from palimpsest.lake import REPOSITORY, Corrupt, Lake, LakeError, NotPublished
from palimpsest.provenance import LINEAGE
from tests.training.conftest import make_study
from training import checkpoint, pretrain
from training import run as inside
from training.__main__ import main
from training.checkpoint import Checkpoints

RUN = "simple-s0"


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """Bit-for-bit tests are about the CPU, also on a machine with a GPU."""
    monkeypatch.setattr(inside, "choose_device", lambda rank: torch.device("cpu"))


def planned(small, study, name=RUN):
    return next(run for run in pretrain.plan_runs(study, small.mixes) if run["run"] == name)


def train(small, lake, study, name=RUN, **options):
    run = planned(small, study, name)
    return pretrain.train(study, lake, tokens=small.tokens, mixes=small.mixes, run=run, **options)


def cut_after(step):
    def cut(found, steps, loss):
        if found == step:
            raise KeyboardInterrupt

    return cut


def interrupted(small, lake, study, step, name=RUN):
    with pytest.raises(KeyboardInterrupt):
        train(small, lake, study, name, progress=cut_after(step))


def bits(published):
    curve = pq.read_table(published.file("curve.parquet")).to_pydict()
    found = json.loads(published.file("evaluation.json").read_text())
    return (
        curve, found["losses"], found["by_position"], found["exposures"],
        published.file("model/model.safetensors").read_bytes(),
    )  # fmt: skip


def folders(lake):
    return sorted(Path(lake.base).glob(f"studies/small/runs/{RUN}/checkpoints/*/step-*"))


def straight(small, tmp_path, study, name=RUN):
    """The run without interruption, in a lake of its own."""
    other = Lake(tmp_path / "straight")
    return bits(train(small, other, study, name))


@pytest.mark.parametrize(
    "settings",
    [{}, {"dropout": 0.1, "label_smoothing": 0.1}, {"attention": "documents", "loss_on": "real", "precision": "bf16"}],
    ids=["plain", "dropout", "masked"],
)
def test_a_run_cut_twice_ends_in_the_bits_of_one_that_was_not(small, lake, tmp_path, settings):
    study = make_study(checkpoint_seconds=0, evaluations=3, **settings)
    steps = planned(small, study)["steps"]
    interrupted(small, lake, study, steps // 3)
    interrupted(small, lake, study, 2 * steps // 3)
    seen = []
    published = train(small, lake, study, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 2 * steps // 3, "the step whose checkpoint the second cut forestalled, not the first"
    assert bits(published) == straight(small, tmp_path, study)
    assert folders(lake) == [], "checkpoints go when the run is published"


DRIVER = """
import sys
from palimpsest.config import Study
from palimpsest.lake import Lake
from pathlib import Path
from training.pretrain import plan_runs, train
study = Study.model_validate_json(Path(sys.argv[2]).read_text())
lake = Lake(sys.argv[1])
mixes, tokens = lake.latest("studies/small/mixes"), lake.latest("studies/small/tokens")
run = next(run for run in plan_runs(study, mixes) if run["run"] == sys.argv[3])
train(study, lake, tokens=tokens, mixes=mixes, run=run, progress=lambda *step: print(step[0], flush=True))
"""


def test_kill_9_at_random_instants_leaves_the_result_bit_for_bit(small, lake, tmp_path):
    """Real processes, killed whenever it hits them: while training, evaluating or writing a checkpoint."""
    study = make_study(checkpoint_seconds=0, evaluations=4)
    file = tmp_path / "study.json"
    file.write_text(study.model_dump_json())
    chance, deaths, progressed = random.Random(7), 0, []
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", DRIVER, lake.root, str(file), RUN],
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            text=True,
        )
        first = child.stdout.readline()
        if deaths < 4:
            time.sleep(chance.uniform(0, 0.2))
            child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        if child.wait() == -signal.SIGKILL:
            deaths += 1
        progressed.append((int(first), int([first, *rest][-1])))
        if child.returncode == 0:
            break
    assert child.returncode == 0
    assert deaths >= 2, progressed
    assert progressed[-1][0] > 1, f"the last process went on, it did not start over: {progressed}"
    assert bits(lake.latest(f"studies/small/runs/{RUN}")) == straight(small, tmp_path, study)


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.TOKENIZER, checkpoint.ABOUT, checkpoint.SUMS])
def test_no_byte_of_any_file_can_change_unnoticed(lake, tmp_path, name):
    """A bit in every place: in the header and all tensors, in digits that leave JSON what it is, in spaces.

    Then the file cut, longer, empty or lost.
    """
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}, indent=1))
    kept = Checkpoints(lake, "studies/s/runs/r", {"run": {"run": "r", "seed": 1}}, tokenizer, 100)
    kept.save({"model.embedding": torch.randn(8, 4), "losses": torch.zeros(3)}, {"step": 7, "steps": 70})
    file = Path(lake.base) / kept.last / name
    content = file.read_bytes()
    assert checkpoint.read(file.parent).step == 7 and len(content) > 70
    damaged = [flipped(content, place) for place in range(len(content))]
    for found in [*damaged, content[:-1], content + b"\n", b""]:
        file.write_bytes(found)
        with pytest.raises(Corrupt, match="step-000000007 is damaged"):
            checkpoint.read(file.parent)
    file.unlink()
    with pytest.raises(Corrupt, match="step-000000007 is damaged"):
        checkpoint.read(file.parent)
    file.write_bytes(content)
    assert checkpoint.read(file.parent).step == 7


def test_sums_are_those_of_sha256sum(lake, tmp_path):
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    kept = Checkpoints(lake, "studies/s/runs/r", {"run": "r"}, tokenizer, 100)
    kept.save({"losses": torch.zeros(2)}, {"step": 1})
    told = subprocess.run(
        ["sha256sum", "--strict", "--check", checkpoint.SUMS], cwd=Path(lake.base) / kept.last, capture_output=True
    )
    assert told.returncode == 0 and told.stdout.count(b": OK") == 3


@pytest.mark.parametrize("damage", ["flipped", "cut short", "state lost", "json cut", "other step", "other tokenizer"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(small, lake, tmp_path, damage, caplog):
    study = make_study(checkpoint_seconds=0)
    interrupted(small, lake, study, 10)
    older, newest = folders(lake)
    assert (older.name, newest.name) == ("step-000000008", "step-000000009")
    state = newest / checkpoint.STATE
    content = bytearray(state.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
        state.write_bytes(content)
    elif damage == "cut short":
        state.write_bytes(content[:1000])
    elif damage == "state lost":
        state.unlink()
    elif damage == "json cut":
        about = newest / checkpoint.ABOUT
        about.write_text(about.read_text()[:50])
    elif damage == "other step":
        about = newest / checkpoint.ABOUT
        about.write_text(about.read_text().replace('"step": 9,', '"step": 8,'))
        assert json.loads(about.read_text())["step"] == 8
    else:
        (newest / checkpoint.TOKENIZER).write_text("{}")
    with caplog.at_level(logging.WARNING):
        seen = []
        published = train(small, lake, study, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 9
    assert "step-000000009 is damaged" in caplog.text and "the one before it is used" in caplog.text
    assert bits(published) == straight(small, tmp_path, study)


def test_a_damaged_checkpoint_takes_no_place_of_the_two_that_are_kept(small, lake):
    study = make_study(checkpoint_seconds=0)
    interrupted(small, lake, study, 10)
    older, newest = folders(lake)
    later = newest.with_name("step-000000030")
    newest.rename(later)
    (later / checkpoint.STATE).write_bytes(b"")
    interrupted(small, lake, study, 12)
    assert [folder.name for folder in folders(lake)] == ["step-000000010", "step-000000011"]


def test_a_checkpoint_of_other_settings_is_named_and_not_used(small, lake, caplog):
    interrupted(small, lake, make_study(checkpoint_seconds=0), 5)
    other = make_study(checkpoint_seconds=0, optimizer={"lr": 1e-3})
    seen = []
    with caplog.at_level(logging.WARNING):
        train(small, lake, other, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 1
    assert "are of another run and are not used (training.optimizer.lr was 0.003, is 0.001); delete them" in caplog.text


def test_a_damaged_checkpoint_of_another_run_does_not_stop_this_one(small, lake, caplog):
    interrupted(small, lake, make_study(checkpoint_seconds=0), 5)
    (folders(lake)[-1] / checkpoint.ABOUT).write_text("[]")
    with caplog.at_level(logging.WARNING):
        train(small, lake, make_study(optimizer={"lr": 1e-3}))
    assert "checkpoint.json is damaged); delete them" in caplog.text


def test_a_checkpoint_put_where_another_run_looks_is_refused(small, lake):
    study = make_study(checkpoint_seconds=0)
    interrupted(small, lake, study, 5)
    newest = checkpoint.read(folders(lake)[-1])
    identity = {**newest.about["identity"], "tokens": "0" * 64}
    with pytest.raises(LakeError, match=r"is of another run: .*tokens was \w+, is 0000"):
        checkpoint.read(folders(lake)[-1], identity)
    with pytest.raises(Corrupt, match="is damaged"):
        checkpoint.read(Path(lake.base), identity)


def test_settings_that_do_not_shape_the_result_take_the_same_run_up(small, lake):
    interrupted(small, lake, make_study(checkpoint_seconds=0), 6)
    seen = []
    train(small, lake, make_study(threads=2, micro_tokens=66), progress=lambda step, *_: seen.append(step))
    assert seen[0] == 6


def test_one_asked_for_by_name_and_digest_is_that_very_one(lake, tmp_path):
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    kept = Checkpoints(lake, "studies/s/runs/r", {"run": "r"}, tokenizer, 100)
    kept.save({"losses": torch.zeros(2)}, {"step": 1})
    with kept.newest() as found:
        digest = found.digest
    with kept.this(kept.last, digest) as again:
        assert again.step == 1
    kept.save({"losses": torch.ones(2)}, {"step": 1})
    with pytest.raises(Corrupt, match="step-000000001 is another one of the same step"), kept.this(kept.last, digest):
        pass
    with pytest.raises(Corrupt, match="step-000000002 is damaged"), kept.this(f"{kept.name}/step-000000002", digest):
        pass


def test_checkpoints_cost_no_more_than_their_share_of_time(lake, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    kept = Checkpoints(lake, "studies/s/runs/r", {"run": "r"}, tokenizer, 100)
    assert not kept.due()
    now[0] = 101
    assert kept.due()

    def slow(file):
        now[0] += 30 * (file.name == checkpoint.STATE)
        return digest(file)

    digest = checkpoint.digest_file
    monkeypatch.setattr(checkpoint, "digest_file", slow)
    kept.save({"losses": torch.zeros(2)}, {"step": 1})
    now[0] += 30 / checkpoint.SHARE - 1
    assert not kept.due(), "30 s of writing asks for 600 s of training"
    now[0] += 2
    assert kept.due()


def test_a_lake_on_an_object_store_keeps_them_too(small, lake, tmp_path):
    study = make_study(checkpoint_seconds=0)
    remote = Lake(f"memory://{tmp_path.name}")
    interrupted(small, remote, study, 7)
    base = f"{remote.base}/studies/small/runs/{RUN}/checkpoints"
    steps = sorted(Path(name).parent.name for name in remote.fs.glob(f"{base}/*/*/{checkpoint.ABOUT}"))
    assert steps == ["step-000000005", "step-000000006"]
    seen = []
    published = train(small, remote, study, progress=lambda step, *_: seen.append(step))
    assert seen[0] == 7
    assert bits(published) == straight(small, tmp_path, study)
    assert not fsspec.filesystem("memory").glob(f"{base}/**/{checkpoint.STATE}")


def test_a_checkpoint_is_exported_and_loaded_by_transformers(small, lake, tmp_path, capsys):
    study = make_study(checkpoint_seconds=0)
    interrupted(small, lake, study, 5)
    newest = folders(lake)[-1]
    assert main(["export", str(newest.relative_to(lake.base)), str(tmp_path / "model")]) == 0
    assert f"step 4 of {planned(small, study)['steps']} of {RUN}" in capsys.readouterr().out
    assert main(["export", str(newest), str(tmp_path / "again")]) == 0
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())
    found = checkpoint.read(newest)
    assert torch.equal(theirs.model.embed_tokens.weight, found.tensor("model.embedding"))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "again")]
    assert weights[0] == weights[1]
    lineage = json.loads((tmp_path / "model" / LINEAGE).read_text())
    assert (lineage["mix"], lineage["recipe"]) == (small.mixes.uri, planned(small, study)["recipe"])
    assert json.loads((tmp_path / "again" / LINEAGE).read_text()) == lineage
    away = shutil.copytree(newest, tmp_path / "away")
    assert main(["export", str(away), str(tmp_path / "lost")]) == 0
    lost = json.loads((tmp_path / "lost" / LINEAGE).read_text())
    assert (lost["depth"], lost["mix"]) == (None, f"unknown (a checkpoint of run {RUN})")
    assert main(["export", "nowhere", str(tmp_path / "model")]) == 1
    assert "no checkpoint nowhere" in capsys.readouterr().err


def test_nothing_is_published_of_a_run_that_was_cut(small, lake):
    interrupted(small, lake, make_study(checkpoint_seconds=0), 5)
    with pytest.raises(NotPublished):
        lake.latest(f"studies/small/runs/{RUN}")
