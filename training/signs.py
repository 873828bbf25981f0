"""``studies/<study>/signs/<run>``: how well a trained model knows what it does not know, and which facts it kept.

Both are early signs of collapse that held-out loss hides. They are made of a published run, so that no run has another
key for them, and take seconds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from palimpsest import tokenizer as tok
from palimpsest.config import Study
from palimpsest.guard import cloze
from palimpsest.lake import Facts, Lake, NotPublished, Published
from training import calibration, evaluate, export, facts
from training.loop import choose_device, choose_precision

log = logging.getLogger(__name__)

CODE = [
    f"training/{name}.py"
    for name in ("attention", "calibration", "evaluate", "export", "facts", "loss", "model", "signs", "targets")
] + ["plugins/palimpsest/guard/cloze.py"]  # fmt: skip
SOURCES = {"real": "train.parquet", "held_out": "validation.parquet"}
"""Facts of the text that mixes may hold, which a model may have read; and of text that none has."""
BINS = pa.schema(
    [("bin", pa.int64()), ("tokens", pa.int64())]
    + [(name, pa.float64()) for name in ("lowest", "highest", "confidence", "accuracy")]
)
ANSWERS = pa.schema(
    [
        ("source", pa.string()),
        ("kind", pa.string()),
        ("document_id", pa.string()),
        ("before", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.int64()),
        ("log_likelihoods", pa.list_(pa.float64())),
        ("right", pa.bool_()),
    ]
)


def read(study: Study, lake: Lake, *, split: Published, tokens: Published, run: Published) -> Published:
    """calibration.parquet (a row per bin) and facts.parquet (a row per question); ``extra`` has the figures.

    ``extra['calibration']`` is that of `training.calibration` without its bins, ``extra['facts']`` by source that of
    `training.facts.score`; where there is too little to judge, ``why``.
    """
    told = json.loads(run.file("evaluation.json").read_text(encoding="utf-8"))
    recipe = told["recipe"]
    training, asked = study.training_of(recipe), study.judging.facts

    def write(directory: Path) -> Facts:
        torch.set_num_threads(training.threads)
        device = choose_device()
        dtype = choose_precision(training.precision, device)
        model = export.load(run.path / "model").to(device).eval()
        sure, bins = _calibrated(model, tokens, dtype)
        pq.write_table(pa.Table.from_pylist(bins, BINS), directory / "calibration.parquet")
        scores, rows = {}, []
        for source, file in SOURCES.items():
            own = _asked(source, model, split.file(file), tokens, asked, dtype) if asked else []
            scores[source] = facts.score([row["right"] for row in own]) | (
                {} if asked else {"why": "the study asks none (judging.facts: 0)"}
            )
            rows += own
        pq.write_table(pa.Table.from_pylist(rows, ANSWERS), directory / "facts.parquet")
        about = {"run": told["run"], "recipe": recipe, "seed": told["seed"]}
        return Facts(extra={**about, "calibration": sure, "facts": scores})

    name = run.dataset.rsplit("/", 1)[1]
    config = {"facts": asked, "context": training.context, "precision": training.precision}
    published = lake.publish(
        f"studies/{study.name}/signs/{name}", write, config=config, parents=[split, tokens, run], code=CODE
    )
    for line in _said(published.extra):
        log.info("%s: %s", name, line)
    return published


def of_runs(study: Study, lake: Lake, runs: Sequence[Published]) -> list[Published]:
    """The newest signs of these very runs, as far as there are any."""
    found = []
    for run in runs:
        try:
            latest = lake.latest(f"studies/{study.name}/signs/{run.dataset.rsplit('/', 1)[1]}")
        except NotPublished:
            continue
        if run.digest in {parent["digest"] for parent in latest.manifest["parents"]}:
            found.append(latest)
    return found


def metrics(extra: Mapping) -> dict[str, float]:
    """ece, its standard error, confidence and accuracy; facts_<source> with standard errors: what could be judged."""
    sure = extra["calibration"]
    found = {"ece": sure["ece"], "ece_error": sure["error"]}
    found |= {"token_confidence": sure["confidence"], "token_accuracy": sure["accuracy"]}
    for source, score in extra["facts"].items():
        found |= {f"facts_{source}": score["share"], f"facts_{source}_error": score["error"]}
    return {name: value for name, value in found.items() if value is not None}


def _calibrated(model, tokens: Published, dtype: torch.dtype) -> tuple[dict, list[dict]]:
    held_out = evaluate.load(
        tokens.file("validation.bin"),
        tokens.file("validation.index.parquet"),
        dtype=tokens.extra["dtype"],
        boundary=tokens.extra["boundary"],
        context=model.context,
    )
    try:
        found = asdict(calibration.calibrate(model, held_out, dtype))
    except ValueError as error:
        nothing = dict.fromkeys(("tokens", "documents", "ece", "error", "confidence", "accuracy"))
        return nothing | {"why": str(error)}, []
    bins = found.pop("bins")
    return found | {"why": ""}, bins


def _asked(source: str, model, file: Path, tokens: Published, count: int, dtype: torch.dtype) -> list[dict]:
    questions = cloze.questions(_documents(file), count)
    likelihoods = facts.answer(model, tok.load(tokens.file("tokenizer.json")), questions, dtype) if questions else []
    return [
        {
            "source": source,
            "kind": question.kind,
            "document_id": question.document,
            "before": question.before,
            "choices": list(question.choices),
            "answer": question.answer,
            "log_likelihoods": found,
            "right": max(range(len(found)), key=found.__getitem__) == question.answer,
        }
        for question, found in zip(questions, likelihoods, strict=True)
    ]


def _documents(file: Path) -> Iterator[tuple[str, str]]:
    """Id and text of the documents that people wrote and mixes may use, some in memory at a time."""
    stored = pq.ParquetFile(file)
    names = [name for name in ("document_id", "text", "is_reserve", "origin") if name in stored.schema_arrow.names]
    for batch in stored.iter_batches(512, columns=names):
        for row in batch.to_pylist():
            if not row.get("is_reserve") and row.get("origin", "real") == "real":
                yield row["document_id"], row["text"]


def _said(extra: Mapping) -> list[str]:
    """A sentence for the calibration and one for each source of facts."""
    sure = extra["calibration"]
    if sure["ece"] is None:
        lines = [f"calibration not judged: {sure['why']}"]
    else:
        lines = [
            f"calibration error {sure['ece']:.3f}" + (f" ± {sure['error']:.3f}" if sure["error"] is not None else "")
            + f" in {calibration.BINS} bins of equal mass over {sure['tokens']:,} held-out tokens: "
            f"{sure['confidence']:.1%} sure, {sure['accuracy']:.1%} right"
        ]  # fmt: skip
    for source, score in extra["facts"].items():
        what = f"facts of {source.replace('_', '-')} text"
        if score["share"] is None:
            lines.append(f"{what} not judged: {score['why']}")
        else:
            lines.append(
                f"{what}: {score['share']:.1%} ± {score['error']:.1%} of {score['questions']} told from "
                f"{cloze.CHOICES - 1} others of their kind; {1 / cloze.CHOICES:.0%} is chance"
            )
    return lines
