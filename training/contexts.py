"""``studies/<study>/contexts/<run>``: what a finished run's model makes of more context, document by document.

`training.evaluate` cuts a long document into windows without overlap, so a token's position in it says nothing of how
much of it the model saw. Here windows overlap by half (sliding windows of Press et al. 2021, 'Shortformer', section 2;
the strided perplexity of Hugging Face's guide for models of fixed length): the first holds the document's first
``context`` tokens, each further one starts half a context later, and of it only those tokens are scored that no window
before it held. So every token is scored once, and beyond the first window with at least half a context before it.
Whole books are read like this, which a model with a longer memory reads better.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from palimpsest.config import Study
from palimpsest.lake import Facts, Lake, LakeError, Published
from training import evaluate, export
from training.loop import choose_device, choose_precision

CODE = [f"training/{name}.py" for name in ("attention", "contexts", "evaluate", "export", "loss", "model")]

log = logging.getLogger(__name__)


def read_contexts(study: Study, lake: Lake, *, tokens: Published, run: Published) -> Published:
    """``contexts.parquet``: per document of ``judging.contexts`` and number of context tokens its tokens and nats.

    Columns document_id, set (null: the study's own), is_short, is_long, first, last (context tokens: 0, 1 to 2, 3 to
    4, 5 to 8, ... up to the run's context), tokens (scored with so many before them in their window and document),
    nats (their summed loss). The boundary token that opens a document is no context. Raises `LakeError` for a set
    without any document.
    """
    told = json.loads(run.file("evaluation.json").read_text(encoding="utf-8"))
    training = study.training_of(told["recipe"])
    sets = list(study.judging.contexts)

    def write(directory: Path) -> Facts:
        torch.set_num_threads(training.threads)
        index = pq.read_table(tokens.file("validation.index.parquet")).to_pylist()
        rows = [row for row in index if any(belongs(row, name) for name in sets)]
        for name in sets:
            if not any(belongs(row, name) for row in rows):
                raise LakeError(f"judging.contexts: set '{name}' of {tokens.uri} has no document; take it out")
        dtype = np.dtype(tokens.extra["dtype"]).newbyteorder("<")
        stream = np.fromfile(tokens.file("validation.bin"), dtype=dtype).astype(np.int64)
        texts = [stream[row["start"] : row["start"] + row["tokens"]] for row in rows]
        device = choose_device()
        model = export.load(run.path / "model").to(device)
        held_out, seen = sliding(texts, tokens.extra["boundary"], model.context)
        losses = evaluate.token_losses(model, held_out, choose_precision(training.precision, device))
        table = tabulate(rows, losses, seen, model.context)
        pq.write_table(table, directory / "contexts.parquet")
        found = {name: _mean(table, name) for name in sets}
        log.info("%s: %s", told["run"], ", ".join(f"{name} {loss:.4f}" for name, loss in found.items()))
        facts = {key: told[key] for key in ("run", "recipe", "seed")}
        return Facts(extra={**facts, "context": model.context, "sets": sets, "losses": found})

    return lake.publish(
        f"studies/{study.name}/contexts/{run.dataset.rsplit('/', 1)[1]}",
        write,
        config={"sets": sets, "context": training.context, "precision": training.precision},
        parents=[tokens, run],
        code=CODE,
    )


def belongs(row: dict, name: str) -> bool:
    """Whether the document of the validation index is in the set."""
    if name in evaluate.SETS:
        flag = evaluate.SETS[name]
        return row["set"] is None and (flag is None or bool(row[flag]))
    return row["set"] == name


def sliding(texts: Sequence[np.ndarray], boundary: int, context: int) -> tuple[evaluate.HeldOut, np.ndarray]:
    """Overlapping windows over documents (each with its closing boundary), and per token how many it sees.

    (tokens,) in the order of the documents; a target of a window that an earlier one has scored has place -1.
    """
    stride, windows, seen, count = max(1, context // 2), [], [], 0
    for targets in texts:
        inputs, places = np.concatenate([[boundary], targets[:-1]]), np.arange(count, count + len(targets))
        scored = start = 0
        while scored < len(targets):
            stop = min(start + context, len(targets))
            place = np.where(np.arange(start, stop) < scored, -1, places[start:stop])
            windows.append((inputs[start:stop], targets[start:stop], place))
            # the window's own inputs up to here, less the boundary that the first one begins with
            seen.append(np.arange(scored, stop) - start + (1 if start else 0))
            scored, start = stop, start + stride
        count += len(targets)
    lengths = [len(targets) for targets in texts]
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    return evaluate.HeldOut(evaluate.batched(windows), {}, position, np.repeat(lengths, lengths)), np.concatenate(seen)


def tabulate(rows: Sequence[dict], losses: np.ndarray, seen: np.ndarray, context: int) -> pa.Table:
    """Losses summed by document and bucket of context tokens: 0, then up to each power of two."""
    bucket = np.where(seen == 0, 0, np.maximum(np.ceil(np.log2(np.maximum(seen, 1))), 1)).astype(int)
    owner = np.repeat(np.arange(len(rows)), [row["tokens"] for row in rows])
    buckets = int(bucket.max()) + 1
    cell = owner * buckets + bucket
    tokens, nats = (np.bincount(cell, weights, len(rows) * buckets) for weights in (None, losses))
    found = [
        {key: rows[place // buckets][key] for key in ("document_id", "set", "is_short", "is_long")}
        | bounds(place % buckets, context)
        | {"tokens": int(tokens[place]), "nats": float(nats[place])}
        for place in np.flatnonzero(tokens).tolist()
    ]
    return pa.Table.from_pylist(found)


def bounds(bucket: int, context: int) -> dict[str, int]:
    """First and last number of context tokens of a bucket."""
    first = 0 if bucket == 0 else 1 if bucket == 1 else 2 ** (bucket - 1) + 1
    return {"first": first, "last": min(2**bucket, context) if bucket else 0}


def _mean(table: pa.Table, name: str) -> float:
    rows = [row for row in table.to_pylist() if belongs(row, name)]
    return sum(row["nats"] for row in rows) / sum(row["tokens"] for row in rows)
