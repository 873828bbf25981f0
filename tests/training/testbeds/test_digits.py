"""The testbed of digits: its data, what is told of each example, and weights that are learned for real."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.func import grad, vmap

from training.meta import bilevel
from training.meta.diagnosis import Collapsed
from training.testbeds.digits import data as digits
from training.testbeds.digits import features, learner, noise
from training.testbeds.digits.arms import Bench
from training.testbeds.digits.learned import learn
from training.testbeds.digits.reweighted import reweight
from training.testbeds.digits.weighing import Recipe


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data():
    return digits.draw(0)


@pytest.fixture(scope="module")
def known(data):
    course = features.dynamics(data, 0, features.EPOCHS[1])
    return features.offline(data, features.position(data), course)


def auroc(data, scores) -> float:
    return roc_auc_score(data.good, np.asarray(scores)[~data.real])


def test_a_seed_draws_its_data_and_no_image_is_in_two_parts(data):
    assert np.bincount(data.sort).tolist() == [60, *digits.GENERATED.values()]
    parts = [data.pool.at(np.flatnonzero(data.real)), data.validation, data.stopping, data.test]
    assert [len(part) for part in parts] == [60, 100, 100, 837]
    for part in parts[:2]:
        assert np.bincount(part.y).min() >= 5
    images = [image.tobytes() for part in parts for image in part.x.numpy()]
    assert len(set(images)) == len(images)
    again, other = digits.draw(0), digits.draw(1)
    assert torch.equal(again.pool.x, data.pool.x)
    assert not torch.equal(other.pool.x, data.pool.x)


def test_gradient_norms_are_those_of_each_example_alone(data):
    theta, few = learner.start(64, 3), data.pool.at(torch.arange(0, 4060, 500))

    def one(parameters, x, y):
        return learner.losses(digits.Examples(x[None], y[None]))(parameters)[0]

    rows = vmap(grad(one), (None, 0, 0))(theta, few.x, few.y)
    length = sum((part.reshape(len(few), -1) ** 2).sum(1) for part in rows.values()).sqrt()
    assert torch.allclose(features.gradient_norms(theta, few)[0], length, rtol=1e-4)


def test_features_tell_what_they_are_made_to_tell(data, known):
    values, names = known
    assert len(names) == values.shape[1] == 10 + 3 + 10 + 1
    column = dict(zip(names, values.numpy().T, strict=True))
    assert auroc(data, column["real_nn1"]) > 0.8
    assert auroc(data, features.margin(data)) > 0.8
    assert auroc(data, -column["error_3"]) > 0.6


def test_weights_that_are_learned_tell_good_from_bad_and_the_learner_gains_by_them(data, known):
    told = []
    own, found = learn(
        data, known[0], Recipe(256, 256), 0, names=known[1], steps=200, tell=lambda figures, step: told.append(step)
    )
    assert auroc(data, found.weights) > 0.75
    plain = learner.accuracy(learner.train(data.pool, 0, steps=200, batch=256), data.test)
    assert found.online > plain + 0.05
    assert told == list(range(20, 201, 20))
    assert all({"mts/share", "mts/largest", "mts/mean"} <= look.keys() for look in found.trace)
    noise = [
        step for step, look in zip(told, found.trace, strict=True) if {"mts/gsnr", "mts/gradient_cosine"} <= look.keys()
    ]
    assert noise == [100], "at every fifth look but the last"
    assert found.trace[-1]["mts/weight_mislabelled"] < 0.5 < 1 < found.trace[-1]["mts/weight_good"]
    assert float(own.weights().min()) >= 0.05
    assert max(found.carried, key=found.carried.get) not in ("origin", "class")


def test_sharp_weights_stop_the_run_unless_it_is_to_go_on(data, known):
    sharp = Recipe(64, 64, floor=0.0, patience=2)
    with pytest.raises(Collapsed, match="3 times in a row the weights leave .* effective examples"):
        learn(data, known[0], sharp, 0)
    _, found = learn(data, known[0], dataclasses.replace(sharp, patience=None), 0, steps=100)
    assert found.alarms
    assert "raise the weight floor or the batch" in found.said


def test_learning_to_reweight_finds_the_bad_without_a_network(data):
    assert auroc(data, reweight(data, 256, 0, steps=120).weights) > 0.6


def test_batches_in_which_nothing_helps_are_passed_over_and_alarms_ring_from_the_start(data):
    found = reweight(data, 1, 0, steps=300)  # half of the pool is bad, so about half of these batches weigh 0
    assert 0 < len(found.alarms) < 300 // bilevel.CHECK
    assert found.alarms[0] <= 150, "as those of MTS, not of the second half alone"
    assert np.isfinite(found.weights).all()
    assert 0 < found.online < 1


def test_a_pool_that_never_helps_is_an_error_that_says_so(data):
    one, other = torch.zeros(50, dtype=torch.int64), torch.ones(50, dtype=torch.int64)
    images = torch.zeros(50, 64)  # all alike, so that what pulls to one label pushes from the other
    wrong = dataclasses.replace(
        data, pool=digits.Examples(images, one), sort=np.arange(50) % 2, validation=digits.Examples(images, other)
    )
    with pytest.raises(ValueError, match="no weights at any look after step 20 of 40: .* check the labels"):
        reweight(wrong, 16, 0, steps=40)


def test_an_arm_is_measured_with_what_it_costs_and_others_do_not_have_is_empty(data, known):
    bench = Bench(data, *known, 0)
    bench.add("Aux-Clf(Val)", bench.judged)
    bench.add("no selection", lambda: (data.pool, {}))
    judged, everything = bench.tables["arms"]
    assert judged["retrained"] > everything["retrained"] + 0.1
    assert judged["auroc"] > 0.7
    assert 60 < judged["kept"] < everything["kept"] == 4060
    assert everything["auroc"] is None is everything["alarms"]
    assert judged["cpu_seconds"] > 0


def test_noise_is_measured_for_even_and_for_peaked_weights(data, known, monkeypatch):
    for name, value in {"GRADIENTS": 4, "PEAKED": 20, "BATCHES": (32, 256), "LARGE": 512}.items():
        monkeypatch.setattr(noise, name, value)
    rows = {(row["state"], row["meta"]): row for row in noise.measure(data, known[0], 0)}
    assert {meta for state, meta in rows if state == noise.EVEN_FEW} == {32, 256, 512}
    assert rows[noise.EVEN_ALL, 256]["effective"] > 0.95 * 256
    assert rows[noise.EVEN_ALL, 256]["noise"] < rows[noise.EVEN_ALL, 32]["noise"]
    assert rows[noise.EVEN_ALL, 256]["noise"] < rows[noise.EVEN_FEW, 256]["noise"]
    assert all(row["batches"] == 4 for row in rows.values())
