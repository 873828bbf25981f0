"""Inside a run: its data, model and files, in one process or as one of several."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from palimpsest import tokenizer as tok
from palimpsest.config import Study, Training
from palimpsest.lake import Facts, Published
from palimpsest.packing import Windows, pack
from palimpsest.provenance import write_lineage
from training import data, delimiters, documents, evaluate, points
from training.checkpoint import Checkpoints
from training.export import export
from training.failure import memory_named
from training.heap import keep_freed_memory
from training.loop import Progress, Tracker, Trained, choose_device, choose_precision, fit
from training.model import Decoder
from training.optim import AdamW
from training.processes import ALONE, Group, put, spread, whole
from training.step import Feed, Learner

log = logging.getLogger(__name__)


def write_run(
    directory: Path | None,
    checkpoints: Checkpoints,
    study: Study,
    tokens: Published,
    run: dict,
    *,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
    group: Group = ALONE,
) -> Facts:
    """Trains the run and writes its files, unless ``directory`` is None: then this process only takes part."""
    study = points.applied(study, run)
    training, facts = study.training, tokens.extra
    if group.world > training.batch:
        raise ValueError(f"training.batch {training.batch} is less than the {group.world} processes torchrun started")
    torch.set_num_threads(training.threads)
    device = choose_device(group.local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    dtype = choose_precision(training.precision, device)
    log.info(
        "%s: %d steps on %s in %s, %d process(es) of %d thread(s)",
        run["run"], run["steps"], device.type, dtype, group.world, training.threads,
    )  # fmt: skip
    held_out = evaluate.load(
        tokens.file("validation.bin"),
        tokens.file("validation.index.parquet"),
        dtype=facts["dtype"],
        boundary=facts["boundary"],
        context=training.context,
    )
    feed = open_feed(study, tokens, run)
    with memory_named(run["run"], "making the model", training):
        learner = make_learner(study.training, run["seed"], facts["vocabulary"], device, dtype, group)
    trained = fit(run["run"], learner, feed, held_out, training, checkpoints, tracker=tracker, progress=progress)

    if group.world > 1 and training.parallel == "fsdp":
        learner.model = _gathered(learner.model)
    if directory is None:
        return Facts()
    evaluation = _evaluation(study, run, feed, learner, trained)
    (directory / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n", encoding="utf-8")
    pq.write_table(trained.curve, directory / "curve.parquet")
    pq.write_table(pa.Table.from_pylist(trained.final.by_position), directory / "position.parquet")
    documents = pq.read_table(tokens.file("validation.index.parquet")).drop_columns(["start"])
    nats = pa.array(trained.final.by_document, pa.float64())
    pq.write_table(documents.append_column("nats", nats), directory / "documents.parquet")
    export(learner.model, tokens.file("tokenizer.json"), directory / "model")
    write_lineage(directory / "model", tokens, run["recipe"])
    facts = {"losses": trained.final.losses, "steps": run["steps"], "seconds": evaluation["seconds"]}
    return Facts(extra={**facts, "mlflow_run_id": getattr(tracker, "run_id", None)})


def open_feed(study: Study, tokens: Published, run: dict) -> Feed:
    """The run's batches, memory-mapped."""
    training = study.training
    sequences = data.mix(
        {
            stream["layout"]: data.open_stream(
                tokens.file(f"{stream['layout']}.bin"), tokens.extra["dtype"], stream["tokens"]
            )
            for stream in run["streams"]
        },
        f=run["f"],
        steps=run["steps"],
        batch=training.batch,
        block=training.block,
        context=training.context,
        seed=run["seed"] if training.data_seed is None else training.data_seed,
        packed=tuple(_packed(study, tokens, stream) for stream in run["streams"]) if training.packing != "cut" else (),
        reshuffle=training.reshuffle,
        ends=run.get("ends", data.ONE),
    )
    parts = [documents.load(tokens.file(f"{stream['layout']}.parts.parquet")) for stream in run["streams"]]
    if training.loss_on == "text":
        tokenizer, dtype = tok.load(tokens.file("tokenizer.json")), tokens.extra["dtype"]
        files = [tokens.file(f"{stream['layout']}.bin") for stream in run["streams"]]
        whole_streams = [data.open_stream(file, dtype, own.tokens) for file, own in zip(files, parts, strict=True)]
        parts = [delimiters.mark(own, stream, tokenizer) for own, stream in zip(parts, whole_streams, strict=True)]
    return Feed(sequences, parts, training.attention, training.loss_on)


def _packed(study: Study, tokens: Published, stream: dict) -> Windows:
    """The windows of what the run uses of a stream: its first megadocs, whole."""
    megadocs = pq.read_table(tokens.file(f"{stream['layout']}.index.parquet"), columns=["tokens"])["tokens"].to_numpy()
    used = megadocs[: np.searchsorted(np.cumsum(megadocs), stream["tokens"]) + 1]
    return pack(used, study.training.context, study.training.packing)


def make_learner(
    training: Training, seed: int, vocab: int, device: torch.device, dtype: torch.dtype, group: Group = ALONE
) -> Learner:
    """A fresh model, its optimizer and, with several processes, its wrapper."""
    model = Decoder(
        training.model,
        vocab=vocab,
        context=training.context,
        seed=seed,
        dropout=training.dropout,
        label_smoothing=training.label_smoothing,
    ).to(device)
    if training.compile == "on" or (training.compile == "auto" and device.type == "cuda"):
        for block in model.blocks:
            block.compile()
    module = spread(model, group, training.parallel, dtype)
    optimizer = AdamW(model, training.optimizer)
    return Learner(model, optimizer, dtype, training.micro_tokens, module, group, seed)


def _gathered(model: Decoder) -> Decoder:
    """The model whole, from the parts that FSDP left in each process; all of them must ask."""
    found = Decoder(model.config, vocab=model.vocab, context=model.context)
    parts = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            put(parameter, whole(parts[name]).cpu())
    return found


def _evaluation(study: Study, run: dict, feed: Feed, learner: Learner, trained: Trained) -> dict:
    training, sequences, group = study.training, feed.sequences, learner.group
    total = len(sequences) * training.batch * training.context
    exposures = _exposures(run, feed)
    targets, real = (sum(found[name] for found in exposures.values()) for name in ("total", "real"))
    device = next(learner.model.parameters()).device
    return {
        "run": run["run"],
        "recipe": run["recipe"],
        "role": run["role"],
        "share": run["share"],
        "seed": run["seed"],
        "losses": trained.final.losses,
        "by_position": trained.final.by_position,
        "by_length": trained.final.by_length,
        "sets": trained.final.sets,
        "finite": True,
        "steps": run["steps"],
        "tokens": {
            # a synthetic stream may hold real copies, which count as real
            "real": real,
            "synthetic": targets - real,
            "padding": total - targets,
            "total": total,
        },
        "streams": run["streams"],
        "exposures": exposures,
        "parameters": learner.model.parameter_counts(),
        "flops": learner.model.flops_per_token() * total,
        "seconds": round(trained.seconds, 3),
        "tokens_per_second": round(total / trained.seconds, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": str(learner.dtype).removeprefix("torch."),
        "threads": training.threads,
        "processes": group.world,
    }


def _exposures(run: dict, feed: Feed) -> dict[str, dict]:
    """Per stream: how often its tokens were targets, how many of these were real text, tokens by times seen."""
    found = {}
    for number, (stream, parts) in enumerate(zip(run["streams"], feed.parts, strict=True)):
        starts, times = data.exposures(feed.sequences, number)
        stops = np.append(starts[1:], len(feed.sequences.streams[number]))
        seen = {time: int((stops - starts)[times == time].sum()) for time in np.unique(times).tolist()}
        found[stream["layout"]] = {
            "total": sum(time * tokens for time, tokens in seen.items()),
            "real": int((times * (parts.real_before(stops) - parts.real_before(starts))).sum()),
            "tokens_by_times_seen": {str(time): tokens for time, tokens in seen.items()},
        }
    return found
