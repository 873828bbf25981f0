"""The model that texts are weighed for: its losses, steps and gradients are those of the platform's own trainer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad

from palimpsest.config import Model, Optimizer, ShortTraining
from training.meta.hypergradient import alignments
from training.model import Decoder
from training.optim import AdamW, learning_rate
from training.selection.learner import Learner

OPTIMIZER = Optimizer(lr=0.01, weight_decay=0.5, warmup=0.0)


def learner_of(optimizer: Optimizer = OPTIMIZER, *, tied: bool = False) -> Learner:
    model = Model(layers=1, width=16, mlp=32, heads=2, tied=tied)
    asked = ShortTraining(model=model, steps=10, context=16, batch=4, optimizer=optimizer)
    return Learner(asked, 10, vocabulary=50, boundary=0, seed=1, device=torch.device("cpu"))


@pytest.fixture
def texts():
    random = np.random.default_rng(0)
    return [random.integers(1, 50, length).astype(np.int32) for length in (5, 40, 1, 15, 16, 3)]


def test_a_texts_loss_is_that_of_its_window_alone_whatever_stands_beside_it(texts):
    learner = learner_of()
    decoder, found = learner.module.decoder, learner.read(texts)
    for text, nats in zip(texts, found, strict=True):
        whole = torch.tensor([0, *text.tolist(), 0])[:17]
        with torch.no_grad():
            alone = decoder.token_losses(whole[None, :-1], whole[None, 1:])
        assert nats == pytest.approx(float(alone.mean()), rel=1e-5)


def test_windows_of_long_texts_are_drawn_and_end_with_the_boundary_where_the_text_does(texts):
    learner, starts = learner_of(), set()
    for seed in range(60):
        batch = learner.batch([texts[1], texts[0]], np.random.default_rng(seed))
        assert batch.inputs.shape == (2, 16)
        assert batch.counted.sum(1).tolist() == [16, 6]
        assert batch.targets[1, :6].tolist() == [*texts[0].tolist(), 0]
        starts.add(tuple(batch.inputs[0].tolist()))
        last = batch.targets[0, -1]
    assert len(starts) > 15
    assert last < 50


@pytest.mark.parametrize("tied", [False, True])
def test_a_step_is_that_of_the_platforms_adamw(texts, tied):
    learner = learner_of(tied=tied)
    model = Decoder(learner.asked.model, vocab=50, context=16, seed=1)
    optimizer = AdamW(model, OPTIMIZER)
    for step in range(3):
        batch = learner.batch(texts)
        theta = {name: value.requires_grad_() for name, value in learner.theta.items()}
        found = torch.autograd.grad(learner.losses(batch)(theta).mean(), list(theta.values()))
        length = torch.sqrt(sum((part**2).sum() for part in found))
        clip = min(1.0, OPTIMIZER.clip / float(length))
        for parameter, part in zip(model.parameters(), found, strict=True):
            parameter.grad = clip * part
        optimizer.step(learning_rate(step, 10, OPTIMIZER))
        learner.theta = {name: value.detach() for name, value in learner.theta.items()}
        learner.learn(batch)
        for name, parameter in model.named_parameters():
            assert torch.allclose(learner.theta[f"decoder.{name}"], parameter, rtol=1e-4, atol=1e-6), name


def test_the_scale_of_a_step_is_what_more_gradient_moves_where_second_moments_hardly_change(texts):
    learner = learner_of(OPTIMIZER.model_copy(update={"clip": 1e9}))
    learner.second = {name: torch.full_like(value, 1e4) for name, value in learner.theta.items()}
    gradient = {name: torch.randn_like(value) for name, value in learner.theta.items()}
    (there, scale), (farther, _) = learner.moves(gradient), learner.moves({n: 2 * g for n, g in gradient.items()})
    for name, part in gradient.items():
        assert torch.allclose(there[name] - farther[name], scale[name] * part, rtol=0.02, atol=1e-7), name
    assert learner.count == 0, "nothing is learned by asking"


def test_gradient_norms_are_those_of_each_text_in_the_output_matrix(texts):
    learner = learner_of()
    batch = learner.batch(texts)
    for n in range(len(texts)):
        alone = type(batch)(*(part[n : n + 1] for part in batch[:3]), texts=1)

        def loss(theta, alone=alone):
            return functional_call(learner.module, theta, (alone,))[0]

        truth = grad(loss)(learner.theta)["decoder.head"].norm()
        assert learner.gradient_norms(texts)[n] == pytest.approx(float(truth), rel=1e-4)


def test_a_central_difference_is_the_product_with_each_texts_own_gradient(texts):
    learner = learner_of()
    batch = learner.batch(texts)
    way = {name: torch.randn_like(value) for name, value in learner.theta.items()}
    found = alignments(learner.losses(batch), learner.theta, way, exact=False)
    for n in range(len(texts)):
        alone = type(batch)(*(part[n : n + 1] for part in batch[:3]), texts=1)
        own = grad(lambda theta, alone=alone: functional_call(learner.module, theta, (alone,))[0])(learner.theta)
        assert float(found[n]) == pytest.approx(float(sum((own[k] * way[k]).sum() for k in way)), rel=0.02, abs=0.02)
