"""What a study costs before anything is trained: ``python -m training cost STUDY``.

Requests and tokens of every strategy; steps, tokens, passes and FLOPs of every recipe at the point the study file
writes; GPU hours of both. Sizes are those of the lake's generations and mixes, or of its plan while there are none of
these; before that, of the study's 'assumed', which these options override::

    python -m training cost megadocs_paper --documents 1312000 --real 1630941984 --written rephrase=669 --tflops 400

``--real`` are the tokens of all real documents, ``--written`` those of one generation ('thought_2=395' for one
strategy, a bare number for the others). Speeds: ``--tokens-per-second`` of a model server, ``--tflops`` of training, of
one GPU each (with ``--device cpu``: of the CPU).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

from palimpsest.config import Study, load_study
from palimpsest.lake import Lake, LakeError, NotPublished
from training import bill, points
from training.budget import Rows, budget, flops_of, imagined, table


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study")
    parser.add_argument("--documents", type=_above(int), help="real training documents, the reserve too")
    parser.add_argument("--real", type=_above(int), help="their tokens")
    parser.add_argument("--written", action="append", default=[], metavar="[STRATEGY=]TOKENS", help="of a generation")
    parser.add_argument("--tokens-per-second", type=_above(float), help="output tokens of one GPU of a model server")
    parser.add_argument("--tflops", type=_above(float), help="model TFLOP/s of one device in training")
    parser.add_argument("--device", choices=["gpu", "cpu"], help="what --tflops is of")


def _above(kind: type) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    read.__name__ = "number above 0"
    return read


def show(options: argparse.Namespace) -> None:
    """Prints the cost of ``options.study``. Raises `LakeError` where no size is known, `ValueError` for wrong ones."""
    study, lake = load_study(options.study), Lake.from_env()
    recipes, vocabulary, counts, said = _sizes(study, lake, options)
    rows = budget(study, recipes, vocabulary)
    written = bill.written(study, counts, options.tokens_per_second)
    speed = _speed(study, lake, recipes, options)
    print("\n\n".join([said, bill.table(written), table(rows), bill.verdict(study, written, flops_of(rows), speed)]))


def _sizes(study: Study, lake: Lake, options: argparse.Namespace) -> tuple[Rows, int, dict[str, tuple[int, int]], str]:
    """Rows of the mixes, the vocabulary, requests and tokens by strategy, and where these are from."""
    assumed, place = study.assumed, f"studies/{study.name}"
    given = options.documents or options.real or options.written
    try:
        if not given:
            split, plan = (lake.latest(f"{place}/{stage}") for stage in ("split", "plan"))
            vocabulary, counts = split.extra["vocabulary"], bill.planned(study, plan, split)
    except NotPublished as error:
        missing = f"{error}; or give --documents, --real and --written"
        given = True
    else:
        missing = ""
    if given:
        documents, real = options.documents or assumed.documents, options.real or assumed.real_tokens
        if not (documents and real):
            raise LakeError(missing or "give --documents and --real too, or the study's 'assumed'")
        written = _written(study, options.written)
        found = imagined(study, documents=documents, real=real, written=written)
        said = f"Sizes are assumed: {documents:,} documents of {real:,} tokens."
        return found, study.tokenizer.vocab_size, bill.expected(study, documents, written), said
    try:
        counts = bill.made(lake.latest(f"{place}/generations"))
        mixes = lake.latest(f"{place}/mixes")
        return points.recipes(mixes), vocabulary, counts, f"Sizes are those of {mixes.uri}."
    except NotPublished:
        facts = split.extra
        mean = {name: round(tokens / max(requests, 1)) for name, (requests, tokens) in counts.items()}
        found = imagined(study, documents=facts["train_documents"], real=facts["train_tokens"], written=mean)
        return found, vocabulary, counts, f"Sizes are expected by {plan.uri}."


def _speed(study: Study, lake: Lake, recipes: Rows, options: argparse.Namespace) -> bill.Speed | None:
    device = (options.device or study.assumed.device).upper()
    if options.tflops:
        return bill.Speed(options.tflops, device, "--tflops")
    found = bill.measured(study, lake, [run for recipe in recipes for run in _names(study, recipes[recipe])])
    if found or not study.assumed.tflops:
        return found
    return bill.Speed(study.assumed.tflops, study.assumed.device.upper(), "assumed.tflops of the study")


def _names(study: Study, rows: points.Rows) -> list[str]:
    """Runs of the recipe at the point the study writes."""
    recipe = rows[0]["recipe"]
    seeds = study.training_of(recipe).seeds
    return [points.at(study, rows, points.own(study, recipe), seed)["run"] for seed in seeds]


def _written(study: Study, given: Sequence[str]) -> dict[str, int]:
    named = {**study.assumed.written, **{name: int(tokens) for name, tokens in _named(study, given).items()}}
    rest = next((int(entry) for entry in given if "=" not in entry), None)
    missing = [name for name in sorted(study.strategies) if name not in named]
    if missing and rest is None:
        raise ValueError(
            f"--written: how many tokens a generation of '{missing[0]}' has is missing; give it here, or in the "
            "study's assumed.written"
        )
    return {name: named.get(name, rest) for name in study.strategies}


def _named(study: Study, given: Sequence[str]) -> dict[str, str]:
    named = dict(entry.split("=", 1) for entry in given if "=" in entry)
    for name in named.keys() - study.strategies.keys():
        raise ValueError(
            f"--written {name}=: study {study.name} has no such strategy, only {', '.join(study.strategies)}"
        )
    return named
