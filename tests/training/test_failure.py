"""What stops a training says where, why, and what to change."""

from __future__ import annotations

import logging
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from palimpsest.lake import REPOSITORY
from tests.training.conftest import make_study
from training import checkpoint, documents, pretrain
from training import run as inside
from training.failure import Diverged, OutOfMemory, memory_named
from training.run import open_feed
from training.step import Learner

RUN = "simple-s0"


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setattr(inside, "choose_device", lambda rank: torch.device("cpu"))


def planned(small, study):
    return next(run for run in pretrain.plan_runs(study, small.mixes) if run["run"] == RUN)


def train(small, lake, study):
    return pretrain.train(study, lake, tokens=small.tokens, mixes=small.mixes, run=planned(small, study))


def poison(monkeypatch, at, where):
    """A weight, or a gradient, becomes NaN at one step, as on a faulty device."""
    update = Learner.update

    def poisoned(self, batch, lr):
        hook = None
        if self.updates == at - 1:
            if where == "weight":
                self.model.norm.scale.data[3] = math.nan
            else:
                hook = self.model.norm.scale.register_hook(lambda gradient: gradient * math.inf)
        found = update(self, batch, lr)
        if hook:
            hook.remove()
        return found

    monkeypatch.setattr(Learner, "update", poisoned)


@pytest.mark.parametrize(("where", "seen"), [("weight", "loss nan, gradient nan"), ("gradient", "gradient")])
def test_nan_names_the_step_the_documents_and_the_last_good_checkpoint(small, lake, monkeypatch, caplog, where, seen):
    study = make_study(checkpoint_seconds=0)
    poison(monkeypatch, 9, where)
    with pytest.raises(Diverged) as raised, caplog.at_level(logging.ERROR):
        train(small, lake, study)
    message = str(raised.value)
    assert message.startswith(f"run {RUN} diverged at step 9: ") and seen in message
    feed = open_feed(study, small.tokens, planned(small, study))
    ids = documents.of_batch(feed.sequences, feed.parts, 8)
    assert 0 < len(ids) <= 8
    assert f"documents of its batch: {', '.join(ids)}; " in message
    assert " ".join(ids) in caplog.text
    good = re.search(r"last good checkpoint: (studies/\S+/step-000000008); lower training", message)[1]
    found = checkpoint.read(Path(lake.base) / good)
    assert all(found.tensor(f"model.{name}").isfinite().all() for name in ("embedding", "norm.scale"))


def test_a_run_that_was_never_kept_says_so(small, lake, monkeypatch):
    poison(monkeypatch, 3, "weight")
    with pytest.raises(Diverged, match="no checkpoint was written before it"):
        train(small, lake, make_study())


def test_a_long_list_of_documents_is_cut_in_the_message_and_whole_in_the_log(caplog):
    from training.failure import diverged

    ids = [f"d{number}" for number in range(30)]
    with caplog.at_level(logging.ERROR):
        message = str(diverged("r", 3, "loss nan", ids, None))
    assert "d7 and 22 more (in the log)" in message and "d8" not in message
    assert "d28 d29" in caplog.text


LIMITED = """
import resource, sys
import torch
from palimpsest.config import Training
from training.failure import memory_named
from training.model import Decoder
doing = sys.argv[1]
width = 2**16 if doing == "making the model" else 256
training = Training.model_validate(
    {"model": {"layers": 2, "width": width, "mlp": 512, "heads": 4}, "context": 1024, "batch": 64}
)
with memory_named("real-s0", doing, training):
    if doing != "making the model":
        model = Decoder(training.model, vocab=512, context=1024)
        tokens = torch.zeros(64, 1025, dtype=torch.long)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
    if doing == "making the model":
        Decoder(training.model, vocab=512, context=1024)
    else:
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
"""


@pytest.mark.parametrize(
    ("doing", "advice"),
    [
        ("at step 3 of 9", "lower training.micro_tokens, now 65536 (64 windows at once)"),
        ("making the model", "lower training.model (layers 2, width 65536) or training.context 1024"),
    ],
)
def test_out_of_memory_names_the_setting_to_lower(doing, advice):
    """A real allocation that fails: the process may have 300 MB more than it has, and asks for gigabytes."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED, doing]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"training.failure.OutOfMemory: run real-s0: out of memory {doing} ("), done.stderr
    assert advice in last


def test_a_step_that_asks_for_too_much_stops_the_run_by_name(small, lake, monkeypatch):
    update = Learner.update

    def hungry(self, batch, lr):
        if self.updates == 4:
            torch.empty(2**46)
        return update(self, batch, lr)

    monkeypatch.setattr(Learner, "update", hungry)
    with pytest.raises(
        OutOfMemory, match=rf"run {RUN}: out of memory at step 5 of \d+ \(.*lower training.micro_tokens"
    ):
        train(small, lake, make_study())


def test_a_gpu_out_of_memory_is_named_and_other_errors_pass():
    training = make_study().training
    with (
        pytest.raises(OutOfMemory, match=r"out of memory at step 1 of 2 \(CUDA out of memory"),
        memory_named("r", "at step 1 of 2", training),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    with pytest.raises(RuntimeError, match="shapes"), memory_named("r", "at step 1 of 2", training):
        raise RuntimeError("shapes cannot be multiplied")
    one = make_study(micro_tokens=1).training
    with pytest.raises(OutOfMemory, match="lower training.model"), memory_named("r", "at step 1 of 2", one):
        raise MemoryError
