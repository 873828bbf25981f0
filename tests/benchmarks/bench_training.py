"""Our training loop beside two others: the same model, batches, optimizer settings, machine and precision.

One peer is Hugging Face's ``Trainer`` on `LlamaForCausalLM`, the other a plain loop in nanoGPT's style (`Plain`). All
three train in turns, so that a busy machine slows all alike: each in its faster precision, and all in fp32. On a GPU
the model has 100M to 300M parameters, in bf16, and the share of the GPU's peak that the model's own arithmetic makes
use of (MFU) is printed.

MFU = tokens/s x FLOP per token / peak, with FLOP per token = 6 x (parameters that multiply, without the embedding)
+ 6 x layers x context x width (causal attention: half of the full square), as `Decoder.flops_per_token`. On a CPU
the time is that of the process, so what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from palimpsest.config import Model, Optimizer
from palimpsest.lake import REPOSITORY
from palimpsest.machine import hardware
from training.data import Sequences, mix
from training.loop import choose_device, choose_precision
from training.model import Decoder
from training.optim import AdamW
from training.step import Feed, Learner

CPU = (Model(layers=2, width=128, mlp=384, heads=2), 2048, 256, 8)
GPU = {
    "160M": (Model(layers=8, width=512, mlp=1792, heads=8), 128_256, 4096, 16),
    "300M": (Model(layers=12, width=768, mlp=2688, heads=12), 128_256, 4096, 16),
}
"""Model, vocabulary, context, windows per step; on a GPU by parameters, embedding and output matrix among them."""
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12}
"""Dense bf16 FLOP/s, from the vendor's data sheets."""
ROUNDS, STEPS = 9, 4
CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time
"""On a CPU the time this process was given: one thread's, and what others do on the machine does not count."""
HYPER = Optimizer()

Loop = Callable[[], float]
"""Trains STEPS steps and says how many seconds they took."""


def run() -> list[dict]:
    """The benchmark's rows; on a machine without a GPU those of the CPU, with a message that says so."""
    torch.set_num_threads(1)
    device = choose_device()
    if device.type == "cpu":
        print("no GPU here: the comparison at 100M to 300M parameters and its MFU are skipped", file=sys.stderr)
        return _compare("2 layers, width 128", CPU, device)
    return [row for name, size in GPU.items() for row in _compare(name, size, device)]


def _compare(name: str, size: tuple[Model, int, int, int], device: torch.device) -> list[dict]:
    config, vocab, context, batch = size
    stream = np.random.default_rng(0).integers(0, vocab, 40 * context * batch).astype("<u4")
    sequences = mix({"real": stream}, f=0.0, steps=STEPS, batch=batch, block=32, context=context, seed=0)
    best = choose_precision("auto", device)
    loops = {}
    with contextlib.ExitStack() as stack:
        for dtype in {torch.float32, best} if device.type == "cpu" else {best}:
            kind = str(dtype).removeprefix("torch.")
            loops["ours", kind] = _ours(config, vocab, sequences, dtype, device)
            loops["trainer", kind] = stack.enter_context(_trainer(config, vocab, sequences, dtype, device))
            loops["plain", kind] = _plain(config, vocab, sequences, dtype, device)
        seconds = _seconds(loops)
    speed = {key: batch * context * STEPS / found for key, found in seconds.items()}
    peers = {"trainer": "Hugging Face Trainer", "plain": "a plain loop in nanoGPT's style"}
    rows = []
    for peer, text in peers.items():
        pairs = {(_fastest(speed, "ours"), _fastest(speed, peer)), ("float32", "float32")}
        for ours, theirs in sorted(pairs):
            if ("ours", ours) in speed:
                full = f"training {name}: in {ours}, against {text} in {theirs}"
                row = {"name": full, "ours": speed["ours", ours], "peer": speed[peer, theirs], "unit": "tokens/s"}
                rows.append(row)
    if device.type == "cuda":
        gpu = torch.cuda.get_device_name(device)
        rows += [utilisation(name, size, " ".join(key), found, gpu) for key, found in sorted(speed.items())]
    return rows


def _fastest(speed: dict[tuple[str, str], float], who: str) -> str:
    return max((tokens, kind) for (name, kind), tokens in speed.items() if name == who)[1]


def _seconds(loops: dict[tuple[str, str], Loop]) -> dict[tuple[str, str], float]:
    """Best time of each; rounds alternate, the first only warms up."""
    times = {name: [] for name in loops}
    for _ in range(ROUNDS + 1):
        for name, loop in loops.items():
            times[name].append(loop())
    return {name: min(found[1:]) for name, found in times.items()}


def utilisation(name: str, size: tuple[Model, int, int, int], who: str, tokens_per_second: float, gpu: str) -> dict:
    """The row of a loop's MFU in percent; of a GPU that `PEAK` does not have, its FLOP/s."""
    config, vocab, context, _ = size
    with torch.device("meta"):
        flops = tokens_per_second * Decoder(config, vocab=vocab, context=context).flops_per_token()
    peak = next((peak for known, peak in PEAK.items() if known in gpu), None)
    if peak is None:
        return {"name": f"training {name}: {who}, peak of {gpu} unknown", "ours": flops, "peer": None, "unit": "FLOP/s"}
    return {"name": f"training {name}: MFU of {who}", "ours": 100 * flops / peak, "peer": None, "unit": "% of peak"}


def _ours(config: Model, vocab: int, sequences: Sequences, dtype: torch.dtype, device: torch.device) -> Loop:
    model = Decoder(config, vocab=vocab, context=sequences.context).to(device)
    if device.type == "cuda":
        for block in model.blocks:
            block.compile()
    feed, learner = Feed(sequences), Learner(model, AdamW(model, HYPER), dtype)

    def loop() -> float:
        started = CLOCK()
        for step in range(STEPS):
            loss, _ = learner.update(feed.at(step, device), HYPER.lr)
        loss.item()
        return CLOCK() - started

    return loop


@contextlib.contextmanager
def _trainer(config: Model, vocab: int, sequences: Sequences, dtype: torch.dtype, device: torch.device):
    """`Trainer` as its documentation has it; evaluation, saving and reports off; its own logging only at the end.

    One ``train()`` call per round, timed from its first step to its end: its set-up does not count.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab,
            hidden_size=config.width,
            intermediate_size=config.mlp,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=sequences.context,
        )
    )
    rows = np.concatenate([sequences.at(step)[:, :-1] for step in range(STEPS)])
    examples = [{"input_ids": tokens, "labels": tokens} for tokens in torch.from_numpy(rows)]

    class FirstStep(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 0:
                self.begun = CLOCK()

    first = FirstStep()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=sequences.batch,
            max_steps=STEPS,
            learning_rate=HYPER.lr,
            weight_decay=HYPER.weight_decay,
            adam_beta1=HYPER.betas[0],
            adam_beta2=HYPER.betas[1],
            max_grad_norm=HYPER.clip,
            lr_scheduler_type="constant",
            bf16=dtype == torch.bfloat16,
            use_cpu=device.type == "cpu",
            torch_compile=device.type == "cuda",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=examples, callbacks=[first])
        trainer.remove_callback(PrinterCallback)

        def loop() -> float:
            trainer.train()
            return CLOCK() - first.begun

        yield loop


def _plain(config: Model, vocab: int, sequences: Sequences, dtype: torch.dtype, device: torch.device) -> Loop:
    """As nanoGPT's loop: autocast, whole logits, ``cross_entropy``, clip, fused AdamW; compiled on a GPU."""
    model = Plain(config, vocab, sequences.context).to(device)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    kept = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": HYPER.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=HYPER.lr, betas=HYPER.betas, fused=True)
    called = torch.compile(model) if device.type == "cuda" else model
    context = torch.autocast(device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()

    def loop() -> float:
        started = CLOCK()
        for step in range(STEPS):
            tokens = torch.from_numpy(sequences.at(step)).to(device)
            with context:
                logits = called(tokens[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), HYPER.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss.item()
        return CLOCK() - started

    return loop


class Plain(nn.Module):
    """The same Llama written as nanoGPT writes its GPT: Linear layers, one SDPA call, logits of every position."""

    def __init__(self, config: Model, vocab: int, context: int) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.embedding, self.head = nn.Embedding(vocab, width), nn.Linear(width, vocab, bias=False)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.RMSNorm(width),
                    "qkv": nn.Linear(width, 3 * width, bias=False),
                    "out": nn.Linear(width, width, bias=False),
                    "norm2": nn.RMSNorm(width),
                    "gate": nn.Linear(width, config.mlp, bias=False),
                    "up": nn.Linear(width, config.mlp, bias=False),
                    "down": nn.Linear(config.mlp, width, bias=False),
                }
            )
            for _ in range(config.layers)
        )
        self.norm = nn.RMSNorm(width)
        half = width // config.heads // 2
        angles = torch.outer(torch.arange(context), config.rope_theta ** -(torch.arange(half) / half))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = x + layer["out"](self.attend(layer["qkv"](layer["norm1"](x))))
            y = layer["norm2"](x)
            x = x + layer["down"](F.silu(layer["gate"](y)) * layer["up"](y))
        return self.head(self.norm(x))

    def attend(self, qkv: torch.Tensor) -> torch.Tensor:
        batch, time, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        heads = (part.view(batch, time, self.config.heads, -1).transpose(1, 2) for part in qkv.split(width, dim=2))
        queries, keys, values = heads
        queries, keys = self.rotate(queries), self.rotate(keys)
        mixed = F.scaled_dot_product_attention(queries, keys, values.to(queries.dtype), is_causal=True)
        return mixed.transpose(1, 2).reshape(batch, time, width)

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def write_results(rows: list[dict], device: torch.device) -> Path:
    """The figures of this device and commit as a page of docs/results, one per kind of device."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    is_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_gpu else "a CPU"
    lines = [
        f"# The trainer beside its peers, on {name}",
        "",
        f"Written by `python tests/benchmarks/bench_training.py --write` at commit `{commit.stdout.strip()[:12]}`, on "
        f"{hardware()}{'' if is_gpu else ', one thread'}; "
        f"torch {torch.__version__}, transformers {version('transformers')}.",
        "",
        *_paragraphs(__doc__),
        "| | ours | peer | unit | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        peer = ["–", "–"] if row["peer"] is None else [f"{row['peer']:,.0f}", f"{row['ours'] / row['peer']:.2f}"]
        lines.append(f"| {row['name']} | {_figure(row)} | {peer[0]} | {row['unit']} | {peer[1]} |")
    kind = name.lower().replace(" ", "-") if is_gpu else "cpu"
    file = REPOSITORY / "docs" / "results" / f"training-{kind}.md"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _figure(row: dict) -> str:
    return f"{row['ours']:,.1f}" if row["unit"].startswith("%") else f"{row['ours']:,.0f}"


def _paragraphs(text: str) -> list[str]:
    return [line for part in text.split("\n\n") for line in (" ".join(part.split()), "")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the figures in docs/results")
    options = parser.parse_args()
    found = run()
    for row in found:
        beside = f", peer {row['peer']:,.0f}, ratio {row['ours'] / row['peer']:.2f}" if row["peer"] else ""
        print(f"{row['name']}: {_figure(row)} {row['unit']}{beside}")
    if options.write:
        print(write_results(found, choose_device()))
