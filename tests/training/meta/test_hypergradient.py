"""The hypergradient against finite differences, autograd and its closed forms; its noise, and its alarms."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, multiprocessing
from torch.func import functional_call, jacrev

from training.meta import diagnosis
from training.meta.hypergradient import WeightNet, descent, hypergradient

RATE = 0.3


class Problem:
    """A small network that learns from examples of which the features say how good they are."""

    def __init__(self, seed: int = 0, count: int = 24, bad: float = 0.5) -> None:
        torch.manual_seed(seed)
        self.learner = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).double()
        self.truth = torch.randn(5, 3, dtype=torch.float64)
        self.network = WeightNet(4, hidden=(9, 9)).double()
        self.theta = {name: value.detach() for name, value in self.learner.named_parameters()}
        self.batch, self.held = self.draw(count, bad), self.draw(16, 0.0)

    def draw(self, count: int, bad: float):
        x = torch.randn(count, 5, dtype=torch.float64)
        wrong = torch.rand(count) < bad
        y = (x @ self.truth).argmax(1)
        y = torch.where(wrong, (y + 1) % 3, y)
        features = torch.randn(count, 4, dtype=torch.float64)
        features[:, 0] += 2 * wrong
        return x, y, features

    def losses(self, batch):
        x, y, _ = batch
        return lambda theta: torch.nn.functional.cross_entropy(functional_call(self.learner, dict(theta), (x,)), y,
                                                               reduction="none")  # fmt: skip

    def found(self, base=None, moves=None, **kinds):
        given = (self.losses(self.batch), self.losses(self.held))
        moves = moves or descent(RATE, base or self.theta)
        return hypergradient(self.network, self.batch[2], self.theta, *given, moves, **kinds)

    def after(self, phi, base=None, scale=None) -> torch.Tensor:
        """L_val(theta'(phi)) written out, with a graph through the step."""
        weights = functional_call(self.network, phi, (self.batch[2],))
        theta = {name: value.clone().requires_grad_() for name, value in self.theta.items()}
        loss = (weights / weights.sum() * self.losses(self.batch)(theta)).sum()
        step = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        pairs = zip((base or theta).items(), step, strict=True)
        ahead = {name: value - (scale[name] if scale else RATE) * part for (name, value), part in pairs}
        return self.losses(self.held)(ahead).mean()


@pytest.fixture(scope="module")
def problem():
    return Problem()


def test_it_is_what_finite_differences_of_the_validation_loss_give(problem):
    found = problem.found()
    phi = {name: value.detach().clone() for name, value in problem.network.named_parameters()}
    torch.manual_seed(1)
    for _ in range(5):
        way = {name: torch.randn_like(value) for name, value in phi.items()}
        sides = [problem.after({name: value + s * 1e-5 * way[name] for name, value in phi.items()}) for s in (1, -1)]
        along = sum((found.gradient[name] * way[name]).sum() for name in phi)
        assert float(along) == pytest.approx(float((sides[0] - sides[1]).detach()) / 2e-5, rel=1e-5)
    assert float(found.validation) == pytest.approx(float(problem.after(phi).detach()))


def test_it_is_what_autograd_through_the_step_gives(problem):
    phi = {name: value.detach().clone().requires_grad_() for name, value in problem.network.named_parameters()}
    truth = torch.autograd.grad(problem.after(phi), list(phi.values()))
    assert torch.allclose(problem.found().flat, torch.cat([part.reshape(-1) for part in truth]), rtol=1e-9, atol=1e-14)


def test_momentum_moves_where_the_validation_loss_is_taken(problem):
    torch.manual_seed(2)
    base = {name: value - 0.2 * torch.randn_like(value) for name, value in problem.theta.items()}
    phi = {name: value.detach().clone().requires_grad_() for name, value in problem.network.named_parameters()}
    truth = torch.cat([p.reshape(-1) for p in torch.autograd.grad(problem.after(phi, base), list(phi.values()))])
    assert torch.allclose(problem.found(base=base).flat, truth, rtol=1e-9, atol=1e-14)
    assert not torch.allclose(problem.found().flat, truth, rtol=0.1)


def test_a_learner_that_scales_its_steps_scales_what_the_validation_loss_says_too(problem):
    torch.manual_seed(4)
    scale = {name: torch.rand_like(value) for name, value in problem.theta.items()}

    def moves(gradient):
        return {name: problem.theta[name] - scale[name] * part for name, part in gradient.items()}, scale

    phi = {name: value.detach().clone().requires_grad_() for name, value in problem.network.named_parameters()}
    after = problem.after(phi, scale=scale)
    truth = torch.cat([part.reshape(-1) for part in torch.autograd.grad(after, list(phi.values()))])
    assert torch.allclose(problem.found(moves=moves).flat, truth, rtol=1e-9, atol=1e-14)


def test_it_is_minus_the_covariance_of_alignment_and_score_under_p(problem):
    found = problem.found()
    phi = {name: value.detach() for name, value in problem.network.named_parameters()}
    score = jacrev(lambda given: functional_call(problem.network, given, (problem.batch[2],)).log())(phi)
    rows = torch.cat([part.reshape(len(found.weights), -1) for part in score.values()], 1)
    p = found.weights / found.weights.sum()
    covariance = (p * (found.alignment - (p * found.alignment).sum())) @ rows
    assert torch.allclose(found.flat, -covariance, rtol=1e-9, atol=1e-14)


def test_a_central_difference_is_near(problem):
    exact, near = problem.found().flat, problem.found(exact=False).flat
    assert float(torch.cosine_similarity(exact, near, dim=0)) > 0.999
    assert float(near.norm() / exact.norm()) == pytest.approx(1, abs=0.01)


def own_part(rank: int, folder: str) -> None:
    """One of two processes: its part of both batches of the same problem, and what it finds."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def over(value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    own = Problem()
    own.batch = tuple(part[rank::2] for part in own.batch)
    own.held = tuple(part[:5] if rank == 0 else part[5:] for part in own.held)
    found = own.found(over=over)
    torch.save((found.flat, found.validation), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_processes_that_share_a_batch_find_what_one_with_all_of_it_does(problem, tmp_path):
    whole = problem.found()
    multiprocessing.spawn(own_part, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        flat, validation = torch.load(tmp_path / f"{rank}.pt")
        assert torch.allclose(flat, whole.flat, rtol=1e-9, atol=1e-14)
        assert float(validation) == pytest.approx(float(whole.validation))


def test_the_network_learns_which_examples_are_wrong():
    problem = Problem(seed=3)
    outer = torch.optim.AdamW(problem.network.parameters(), lr=3e-3)
    for _ in range(150):
        problem.batch, problem.held = problem.draw(128, 0.5), problem.draw(64, 0.0)
        found = problem.found()
        for name, value in problem.network.named_parameters():
            value.grad = found.gradient[name]
        outer.step()
    _, _, features = problem.draw(2_000, 0.5)
    with torch.no_grad():
        weights = problem.network(features)
    good = features[:, 0] < 1
    assert float(weights[good].mean()) > 2 * float(weights[~good].mean())
    assert float(weights.min()) >= problem.network.floor


def test_signal_over_noise_is_that_of_the_gradients_and_grows_with_the_batch():
    torch.manual_seed(0)
    mean = torch.randn(50, dtype=torch.float64)
    drawn = mean + 2 * torch.randn(4_000, 50, dtype=torch.float64)
    found = diagnosis.of_gradients(drawn)
    assert found.ratio == pytest.approx(float((mean**2).sum()) / (4 * 50), rel=0.1)
    assert found.cosine == pytest.approx(found.ratio / (1 + found.ratio), abs=0.03)
    none = torch.randn(20, 50, dtype=torch.float64)
    raw = float((none.mean(0) ** 2).sum() / none.var(0).sum())
    assert raw == pytest.approx(1 / 20, rel=0.5)
    assert diagnosis.of_gradients(none).ratio < raw / 2, "the noise of the mean is no signal"
    problem, ratios = Problem(), {}
    problem.held = problem.draw(2_000, 0.0)
    for count in (16, 256):
        gradients = []
        for _ in range(100):
            problem.batch = problem.draw(count, 0.5)
            gradients.append(problem.found().flat)
        ratios[count] = diagnosis.of_gradients(torch.stack(gradients)).ratio
    assert 6 < ratios[256] / ratios[16] < 40, "16 times the batch: about 16 times the ratio, with all the held-out data"


def test_peaked_weights_alarm_and_stop():
    even, peaked = diagnosis.of_weights(torch.full((1024,), 0.5)), torch.full((1024,), 1e-4)
    assert (even.effective, even.share, even.largest) == pytest.approx((1024, 1, 1 / 1024))
    assert diagnosis.alarm(even, 128) == ""
    peaked[:4] = 1.0
    told = diagnosis.of_weights(peaked)
    assert told.effective == pytest.approx(4, abs=0.3)
    assert "effective examples, 0.4% of the batch" in diagnosis.alarm(told, 1024)
    half = torch.full((1024,), 0.05)
    half[:200] = 1.0
    assert "learner's batch of 64 is worth" in diagnosis.alarm(diagnosis.of_weights(half), 64)
    assert diagnosis.check(told, 1024, 0, patience=2) == 1
    assert diagnosis.check(even, 1024, 2, patience=2) == 0
    with pytest.raises(diagnosis.Collapsed, match="3 times in a row the weights leave"):
        diagnosis.check(told, 1024, 2, patience=2)
    with pytest.raises(ValueError, match="add up to nan"):
        diagnosis.of_weights(torch.tensor([float("nan"), 1.0]))


def test_a_floor_keeps_every_example_in():
    with pytest.raises(ValueError, match="leaves no room"):
        WeightNet(3, floor=1.0)
    network = WeightNet(3, hidden=(4,))
    with torch.no_grad():
        network.layers[-1].bias.fill_(-50.0)
    assert network(torch.zeros(2, 3)).tolist() == pytest.approx([0.05, 0.05])
