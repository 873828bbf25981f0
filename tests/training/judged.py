"""Finished runs without the training: models of seeded weights, published as the trainer publishes its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from palimpsest.lake import Facts, Lake, Published
from tests.training.conftest import Small
from training.export import export
from training.model import Decoder


def publish_run(lake: Lake, small: Small, name: str, *, recipe: str = "simple", seed: int = 0, sharp: float = 4.0):
    training = small.study.training
    model = Decoder(training.model, vocab=small.tokens.extra["vocabulary"], context=training.context, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(sharp)  # far from the uniform distribution of a fresh model

    def write(directory: Path) -> Facts:
        (directory / "evaluation.json").write_text(json.dumps({"run": name, "recipe": recipe, "seed": seed}))
        export(model, small.tokens.file("tokenizer.json"), directory / "model")
        return Facts()

    config = {"seed": seed, "sharp": sharp, "context": training.context}
    return lake.publish(f"studies/small/runs/{name}", write, config=config, parents=[small.tokens])


def probabilities(run: Published, ids: list[int], context: int) -> torch.Tensor:
    """What transformers gives each of the ids after the boundary and those before it in its window, in fp64."""
    from transformers import LlamaForCausalLM

    theirs = LlamaForCausalLM.from_pretrained(run.path / "model").eval()
    found = []
    for start in range(0, len(ids), context):
        inputs = [0, *ids[:-1]][start : start + context]
        with torch.no_grad():
            logits = theirs(torch.tensor([inputs])).logits[0].double()
        found.append(logits.softmax(-1).gather(1, torch.tensor(ids[start : start + context])[:, None])[:, 0])
    return torch.cat(found)
