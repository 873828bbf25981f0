"""What the training benchmark says on a GPU, as far as it can be tested without one."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.bench_training import GPU, utilisation
from training.model import Decoder


@pytest.mark.parametrize("name", GPU)
def test_models_on_a_gpu_have_the_parameters_that_they_are_named_by(name):
    config, vocab, context, _ = GPU[name]
    with torch.device("meta"):
        total = Decoder(config, vocab=vocab, context=context).parameter_counts()["total"]
    assert 100e6 <= total <= 300e6 and total == pytest.approx(1e6 * int(name.removesuffix("M")), rel=0.02)


def test_utilisation_is_the_share_of_the_peak_in_percent():
    """The 300M model: 201.1M parameters multiply (all but the embedding), attention adds 6 * 12 * 4096 * 768 FLOP."""
    flops = 6 * (12 * (4 * 768**2 + 3 * 768 * 2688) + 128_256 * 768) + 6 * 12 * 4096 * 768
    row = utilisation("300M", GPU["300M"], "ours bfloat16", 300_000, "NVIDIA H200")
    assert row["ours"] == pytest.approx(100 * 300_000 * flops / 989e12, rel=1e-3) and 40 < row["ours"] < 50
    assert (row["name"], row["unit"]) == ("training 300M: MFU of ours bfloat16", "% of peak")


def test_a_gpu_of_unknown_peak_has_no_utilisation_but_flops():
    row = utilisation("160M", GPU["160M"], "ours bfloat16", 1_000, "Some Other GPU")
    assert row["unit"] == "FLOP/s" and row["ours"] > 1e11 and "peak of Some Other GPU unknown" in row["name"]
