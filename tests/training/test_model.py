from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from palimpsest.config import Model, Optimizer
from training import attention
from training import loss as loss_module
from training import model as model_module
from training.attention import attend
from training.loss import LinearCrossEntropy
from training.model import Decoder
from training.optim import AdamW, learning_rate


def decoder(seed=0, **change):
    config = Model.model_validate({"layers": 2, "width": 32, "mlp": 64, "heads": 4} | change)
    return Decoder(config, vocab=320, context=48, seed=seed)


def test_the_fused_loss_has_the_value_and_gradients_of_plain_cross_entropy(monkeypatch):
    monkeypatch.setitem(loss_module.LOGITS, "cpu", 320 * 7)  # several uneven chunks
    torch.manual_seed(0)
    hidden, output = torch.randn(50, 16, requires_grad=True), torch.randn(320, 16, requires_grad=True)
    targets = torch.randint(0, 320, (50,))
    (LinearCrossEntropy.apply(hidden, output, targets) / 50).backward()
    ours = hidden.grad.clone(), output.grad.clone()
    hidden.grad = output.grad = None
    loss = F.cross_entropy(hidden @ output.T, targets)
    loss.backward()
    torch.testing.assert_close(LinearCrossEntropy.apply(hidden, output, targets) / 50, loss)
    torch.testing.assert_close(ours, (hidden.grad, output.grad))


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_short_bf16_attention_on_a_cpu_equals_the_fused_kernel(key_heads):
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(2, heads, 33, 16) for heads in (4, key_heads, key_heads))
    expected = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
    found = attend(queries.bfloat16(), keys.bfloat16(), values.bfloat16()).float()
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)


def test_the_future_is_not_seen_and_every_earlier_token_is():
    model, tokens = decoder(), torch.arange(40)[None]
    changed = tokens.clone()
    changed[0, 20] = 300
    before, after = model.logits(tokens), model.logits(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert (before[:, 20:] != after[:, 20:]).any(-1).all()


SEGMENTS = torch.tensor([[0] * 13 + [1] * 20 + [2] * 7, [0] * 40])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_masked_at_boundaries_a_window_has_the_logits_of_its_documents_alone(dtype, kv_heads):
    model, tokens = decoder(kv_heads=kv_heads), torch.randint(0, 320, (2, 40))
    close = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.05}
    found = model.logits(tokens, dtype, SEGMENTS)
    for cut in (slice(0, 13), slice(13, 33), slice(33, 40)):
        torch.testing.assert_close(found[:1, cut], model.logits(tokens[:1, cut], dtype), **close)
    torch.testing.assert_close(found[1:], model.logits(tokens[1:], dtype), **close)
    assert not torch.allclose(found[:1], model.logits(tokens[:1], dtype), **close)


def test_flex_attention_gives_the_logits_of_the_dense_mask(monkeypatch):
    """On a CPU FlexAttention has no backward: there the dense mask trains, and Flex is held to its logits."""
    model, tokens, found = decoder(kv_heads=2), torch.randint(0, 320, (2, 40)), []
    for mask in (attention.dense_mask, attention.block_mask):
        monkeypatch.setattr(model_module, "segment_mask", mask)
        with torch.no_grad():
            found.append(model.requires_grad_(False).logits(tokens, segments=SEGMENTS))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gpu_learns_within_documents_as_the_dense_mask_does(compiled):
    tokens, found = torch.randint(0, 320, (2, 41)), []
    for device in ("cpu", "cuda"):
        model = decoder().to(device)
        if compiled and device == "cuda":
            model.blocks[0].compile()
        call = (tokens[:, :-1].to(device), tokens[:, 1:].to(device))
        loss = model.loss(*call, segments=SEGMENTS.to(device))
        loss.backward()
        found.append([loss.detach().cpu(), *(p.grad.cpu() for p in model.parameters())])
    torch.testing.assert_close(found[1], found[0], atol=1e-2, rtol=1e-2)


def test_the_fused_loss_smooths_labels_as_torch_does(monkeypatch):
    monkeypatch.setitem(loss_module.LOGITS, "cpu", 320 * 7)
    torch.manual_seed(0)
    hidden, output = torch.randn(50, 16, requires_grad=True), torch.randn(320, 16, requires_grad=True)
    targets = torch.randint(0, 320, (50,))
    loss = F.cross_entropy(hidden @ output.T, targets, label_smoothing=0.2, reduction="sum")
    expected = torch.autograd.grad(loss, (hidden, output))
    ours = LinearCrossEntropy.apply(hidden, output, targets, 0.2)
    torch.testing.assert_close(ours, loss)
    torch.testing.assert_close(torch.autograd.grad(ours, (hidden, output)), expected)


def test_only_counted_targets_are_learned():
    model, tokens = decoder(), torch.randint(0, 320, (3, 41))
    counted = torch.rand(3, 40) < 0.4
    model.loss(tokens[:, :-1], tokens[:, 1:], counted=counted).backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    losses = F.cross_entropy(model.logits(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    (losses * counted.flatten()).sum().backward()
    torch.testing.assert_close(ours, [p.grad for p in model.parameters()], atol=1e-4, rtol=1e-4)
    nothing = model.loss(tokens[:, :-1], tokens[:, 1:], counted=torch.zeros(3, 40, dtype=torch.bool))
    assert nothing.item() == 0


def test_dropout_drops_while_training_only():
    config = Model(layers=2, width=32, mlp=64, heads=4)
    model = Decoder(config, vocab=320, context=48, dropout=0.5)
    tokens = torch.randint(0, 320, (2, 41))
    call = (tokens[:, :-1], tokens[:, 1:])
    assert model(*call) != model(*call)
    model.eval()
    assert torch.equal(model(*call), model(*call))
    assert torch.equal(model(*call), decoder().eval()(*call))


def test_nothing_in_a_block_stops_the_compiler_and_it_computes_the_same():
    """The tracing half of torch.compile; its code generator takes a minute on a CPU."""
    model, tokens = decoder(), torch.randint(0, 320, (2, 41))
    expected = model.loss(tokens[:, :-1], tokens[:, 1:])
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(model.loss(tokens[:, :-1], tokens[:, 1:]), expected)


def test_a_seed_fixes_the_weights():
    same, other = decoder(seed=1), decoder(seed=2)
    assert torch.equal(decoder(seed=1).embedding, same.embedding)
    assert not torch.equal(other.embedding, same.embedding)


def test_parameters_are_counted_with_and_without_embeddings():
    blocks = 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    assert decoder().parameter_counts() == {"total": blocks + 2 * 320 * 32, "non_embedding": blocks}
    assert decoder(tied=True).parameter_counts() == {"total": blocks + 320 * 32, "non_embedding": blocks}


def test_decay_spares_norms_and_embeddings_and_nothing_else():
    for model in (decoder(), decoder(tied=True)):
        (decayed, decay), (kept, none) = AdamW(model, Optimizer(weight_decay=0.3)).groups
        assert (decay, none) == (0.3, 0.0)
        assert {id(p) for p in kept} == {id(p) for n, p in model.named_parameters() if "norm" in n or n == "embedding"}
        assert len(decayed) + len(kept) == len(list(model.parameters()))


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_not_decayed_is_a_setting(tied):
    model = decoder(tied=tied)
    kinds = {id(model.embedding): "embedding"} | ({} if tied else {id(model.head): "output"})
    kinds |= {id(p): "norms" for name, p in model.named_parameters() if "norm" in name}
    for undecayed in ([], ["output"], ["norms", "matrices"], ["matrices", "norms", "output", "embedding"]):
        optimizer = AdamW(model, Optimizer(weight_decay=0.5, undecayed=undecayed))
        (decayed, _), (kept, none) = optimizer.groups
        assert none == 0 and len(decayed) + len(kept) == len(list(model.parameters()))
        assert all(kinds.get(id(p), "matrices") in undecayed for p in kept)
        assert not any(kinds.get(id(p), "matrices") in undecayed for p in decayed)
        model.loss(torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.int64)).backward()
        before = {id(p): p.detach().clone() for p in model.parameters()}
        for parameter in model.parameters():
            parameter.grad.zero_()
        optimizer.step(0.1)
        for parameter in model.parameters():  # without a gradient an update is the decay alone
            left = 1.0 if any(parameter is p for p in kept) else 1 - 0.1 * 0.5
            torch.testing.assert_close(parameter.detach(), before[id(parameter)] * left)


def test_updates_are_those_of_torch_adamw():
    ours, theirs, config = decoder(), decoder(), Optimizer(weight_decay=0.7)
    mine = AdamW(ours, config)
    decayed = [p for n, p in theirs.named_parameters() if p.dim() == 2 and n != "embedding"]
    kept = [p for p in theirs.parameters() if all(p is not d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.7}, {"params": kept, "weight_decay": 0.0}]
    torchs = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
    tokens = torch.randint(0, 320, (4, 41), generator=torch.Generator().manual_seed(0))
    for step in range(5):
        for group in torchs.param_groups:
            group["lr"] = 1e-2 / (step + 1)
        for model in (ours, theirs):
            model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        mine.step(1e-2 / (step + 1))
        torchs.step()
        torchs.zero_grad()
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert all(p.grad is None for p in ours.parameters())


def test_warm_up_is_linear_over_one_percent_then_cosine_to_the_floor():
    config = Optimizer(lr=1.0, min_lr_ratio=0.1)
    rates = [learning_rate(step, 1000, config) for step in range(1000)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[505] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-4)
    assert learning_rate(0, 1, config) == 1.0


def test_the_rate_may_go_down_linearly_or_not_at_all_or_only_at_the_end():
    def rates(**settings):
        config = Optimizer(lr=2.0, warmup=0.1, min_lr_ratio=0.5, **settings)
        return [learning_rate(step, 100, config) for step in range(100)]

    warm = [0.2 * (step + 1) for step in range(10)]
    assert rates(schedule="linear") == pytest.approx(warm + [2.0 - step / 90 for step in range(90)])
    assert rates(schedule="constant") == pytest.approx(warm + [2.0] * 90)
    trapezoid = rates(schedule="constant", cooldown=0.2)  # of the 90 steps after the warm-up the last 18
    assert trapezoid[:83] == pytest.approx(warm + [2.0] * 73)
    assert trapezoid[82:] == pytest.approx([2.0 - step / 18 for step in range(18)])
    with pytest.raises(ValueError, match="'cooldown' is of schedule 'constant', and this one is 'cosine'"):
        Optimizer(cooldown=0.2)
