from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from palimpsest.config import Model
from tests.training.conftest import make_tokenizer
from training.export import export, load
from training.model import Decoder


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [None, 2, 1])
def test_transformers_computes_the_same_logits_from_the_export(tmp_path, tied, kv_heads):
    make_tokenizer(tmp_path / "tokenizer.json")
    config = Model(layers=2, width=32, mlp=48, heads=4, kv_heads=kv_heads, tied=tied, rope_theta=500.0)
    model = Decoder(config, vocab=320, context=64, seed=5)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # far from the initial values, norms included
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
    export(model, tmp_path / "tokenizer.json", tmp_path / "model")
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())
    tokens = torch.randint(0, 320, (3, 64), generator=random)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(tokens), theirs.eval()(tokens).logits, atol=1e-3, rtol=1e-3)
        loss = model.token_losses(tokens[:, :-1], tokens[:, 1:]).mean()
        torch.testing.assert_close(loss, theirs(tokens, labels=tokens).loss, atol=1e-4, rtol=1e-4)


def test_the_exported_tokenizer_and_its_boundary_load(tmp_path):
    make_tokenizer(tmp_path / "tokenizer.json")
    model, folder = Decoder(Model(layers=1, width=32, mlp=48, heads=4), vocab=320, context=64), tmp_path / "model"
    export(model, tmp_path / "tokenizer.json", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == 0
    assert tokenizer.eos_token == "<|endoftext|>"
    text = "the tide  rises\nnaïve 水"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert LlamaForCausalLM.from_pretrained(folder).generation_config.eos_token_id == 0


@pytest.mark.parametrize(("tied", "kv_heads"), [(False, None), (True, 2), (False, 1)])
def test_an_export_loads_as_the_student_it_was(tmp_path, tied, kv_heads):
    make_tokenizer(tmp_path / "tokenizer.json")
    config = Model(layers=2, width=32, mlp=48, heads=4, kv_heads=kv_heads, tied=tied, rope_theta=500.0)
    model = Decoder(config, vocab=320, context=64, seed=5)
    export(model, tmp_path / "tokenizer.json", tmp_path / "model")
    found = load(tmp_path / "model")
    theirs, ours = dict(found.named_parameters()), dict(model.named_parameters())
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    tokens = torch.arange(64)[None]
    with torch.no_grad():
        assert torch.equal(found.logits(tokens), model.logits(tokens))
