"""A loss that goes up and stays there stops the run; plateaus, noise and spikes do not."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from palimpsest.lake import Lake
from tests.training.conftest import make_study, publish_mixes
from training import checkpoint, documents, pretrain
from training import run as inside
from training.failure import Diverged
from training.rise import STEPS, Rise
from training.run import open_feed
from training.step import Learner

RUN = "simple-s0"
UNIFORM = math.log(2048)


def risen(losses, warmup=0.0, steps=3000):
    """The first rise that is found, the step it was found at, and the last good one."""
    rise = Rise(2048, steps, warmup)
    for step, loss in enumerate(losses, 1):
        if found := rise.add(step, float(loss)):
            return found, step, rise.good
    return None


def noise(steps, std, seed=0):
    return np.random.default_rng(seed).normal(0, std, steps)


def learned(steps, final=3.4):
    """From ln(vocabulary) down, as a run does, with the noise of batches of four windows."""
    return final + (UNIFORM - final) * np.exp(-np.arange(steps) / 80) + noise(steps, 0.15)


@pytest.mark.parametrize("height", [UNIFORM, UNIFORM * 1.5, 6.4], ids=["uniform", "above", "an early plateau's"])
def test_a_jump_that_stays_is_found_within_the_window_and_its_first_step_named(height):
    found, step, good = risen([*learned(500), *(height + noise(200, 0.1))])
    assert found.step == 501
    assert 501 < step <= 500 + STEPS
    assert 400 < good < 500
    said = r"the mean loss of 32 steps rose from 3\.[34]\d? at step 4\d\d to 5\.\d* at step 5\d\d \(.* is 7\.62\)"
    assert re.fullmatch(said, found.what)


def test_a_long_run_has_a_hundredth_of_it_to_come_back():
    back = [*learned(4000), *(UNIFORM - np.arange(300) / 300 * 4), *learned(4000)[500:]]
    assert risen(back, steps=3000)
    assert risen(back, steps=50_000) is None
    _, step, _ = risen([*learned(4000), *np.full(1000, UNIFORM)], steps=50_000)
    assert 4000 + 240 < step <= 4000 + 500


def test_a_slow_rise_names_as_good_what_was_before_it():
    found, step, good = risen([*learned(500), *(3.4 + np.arange(400) / 400 * 5 + noise(400, 0.15))])
    assert 500 < found.step <= step < 800
    assert good <= 500 + STEPS


@pytest.mark.parametrize(
    "losses",
    [
        learned(4000),
        [*(UNIFORM + 0.02 + noise(600, 0.05)), *learned(1000)],
        [*(0.85 * UNIFORM + noise(3000, 0.5)), *learned(1000, 2.0)],
        3.4 + noise(5000, 0.8),
        [*learned(500), 20, 18, 15, 12, 10, *(9 - np.arange(10) / 2), *learned(500)[200:]],
        [*learned(500, 0.05), *(0.05 + np.abs(noise(500, 0.05)))],
        np.where(np.random.default_rng(3).random(3000) < 0.3, 0, 0.85 * UNIFORM + noise(3000, 0.3)),
    ],
    ids=["falls", "leaves ln(vocabulary) late", "leaves a plateau late", "noisy", "spike", "learned by heart",
         "batches without a target"],
)  # fmt: skip
def test_a_run_that_goes_on_is_not_stopped(losses):
    assert risen(losses) is None


def test_the_warmup_may_do_what_it_likes_and_a_run_that_never_learned_is_stopped_after_it():
    losses = UNIFORM * 1.2 + noise(300, 0.1)
    _, step, _ = risen(losses, warmup=0.2, steps=1000)
    assert step == 200 + STEPS


def test_what_the_rule_needs_follows_from_the_losses_so_far():
    losses = [*learned(500), *(UNIFORM + noise(200, 0.1))]
    straight = risen(losses)
    for cut in (10, 490, 505):
        again = Rise(2048, 3000, 0.0)
        assert not any(again.add(step, float(loss)) for step, loss in enumerate(losses[:cut], 1))
        rest = (again.add(step, float(loss)) for step, loss in enumerate(losses[cut:], cut + 1))
        assert (next(filter(None, rest)), again.good) == (straight[0], straight[2])


@pytest.fixture
def longer(small, lake, monkeypatch):
    """Batches of one window: a hundred steps and more, as noisy as can be."""
    monkeypatch.setattr(inside, "choose_device", lambda rank: torch.device("cpu"))
    study = make_study(batch=1, checkpoint_seconds=0)
    parts = pq.read_table(small.mixes.file("megadoc_parts.parquet"))
    return replace(small, study=study, mixes=publish_mixes(lake, study, parts))


def planned(small):
    return next(run for run in pretrain.plan_runs(small.study, small.mixes) if run["run"] == RUN)


def train(small, lake, **options):
    return pretrain.train(small.study, lake, tokens=small.tokens, mixes=small.mixes, run=planned(small), **options)


def numb(monkeypatch, after):
    """From one step on the model says the same of all tokens, as on a faulty device: its loss is ln(vocabulary)."""
    update = Learner.update

    def numbed(self, batch, lr):
        if self.updates >= after:
            self.model.norm.scale.data.zero_()
        return update(self, batch, lr)

    monkeypatch.setattr(Learner, "update", numbed)


def stopped(small, lake):
    with pytest.raises(Diverged) as raised:
        train(small, lake)
    return str(raised.value)


def test_a_run_that_forgets_all_is_stopped_and_names_a_checkpoint_from_before(longer, lake, tmp_path, monkeypatch):
    numb(monkeypatch, 80)
    message = stopped(longer, lake)
    said = r"diverged at step 81: the mean loss of 32 steps rose from \d\.\d+ at step (\d+) to .* at step (\d+) "
    best, at = map(int, re.match(f"run {RUN} {said}", message).groups())
    feed = open_feed(longer.study, longer.tokens, planned(longer))
    ids = documents.of_batch(feed.sequences, feed.parts, 80)
    assert f"documents of its batch: {', '.join(ids)}; " in message
    folder = Path(lake.base) / re.search(r"last good checkpoint: (\S+);", message)[1]
    good = checkpoint.read(folder)
    assert good.step == best - 1 < 80 < at <= 80 + STEPS
    kept = sorted(step.name for step in folder.parent.iterdir())
    assert kept == [f"step-{step:09d}" for step in (good.step, at - 2, at - 1)]
    assert (good.tensor("losses")[: good.step][-10:] < 0.5 * math.log(320)).all()

    def cut(step, steps, loss):
        if step == 90:
            raise KeyboardInterrupt

    again = Lake(tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        train(longer, again, progress=cut)
    assert stopped(longer, again) == message
