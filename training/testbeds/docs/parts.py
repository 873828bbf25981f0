"""What is measured of a seed of documentation, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from palimpsest.lake import Lake, Published
from training.selection.keys import TRAINER
from training.testbeds.stage import Part, Tables, Testbed, watch

CODE = (
    *(f"training/selection/{name}.py" for name in ("classifier", "commonness", "found", "likelihood", "pool")),
    "training/testbeds/docs/arms.py",
    "plugins/palimpsest/guard/trigram.py",
)
PVM = (
    *TRAINER,
    *(f"training/selection/{name}.py" for name in ("pvm", "target")),
    "training/testbeds/docs/settings.py",
)
MTS = (
    "training/meta",
    *(f"training/selection/{name}.py" for name in ("features", "learner", "mts")),
    "training/testbeds/docs/learned.py",
)
ABOUT = "Which scores find clean texts of CPython's documentation among degraded ones, at an equal budget of tokens."


def _simple(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    bench.simple()
    return bench.tables


def _pvm(seed: int, texts: Published) -> Tables:
    from palimpsest import tokenizer
    from training.selection import pvm, target
    from training.testbeds.docs import settings
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    read = target.read(bench.pool, tokenizer.load(texts.file("tokenizer.json")), every_real=True)
    for asked in settings.pvm(seed):
        work = partial(pvm.score, bench.pool, read, asked, settings.TRAINING)
        bench.scored(f"PVM, alpha {asked.alpha:g}", work)
    return bench.tables


def _mts(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs import learned
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    learned.measure(bench, texts, watch(TESTBED, seed))
    return bench.tables


def _texts(lake: Lake, seed: int) -> Sequence[Published]:
    from training.testbeds.docs import texts

    return [texts.publish(lake, seed)]


def _report(lake: Lake, published: Sequence[Published]) -> Published:
    from training.analysis.testbed_docs import report

    return report(lake, published)


TESTBED = Testbed(
    "docs",
    ABOUT,
    {"simple": Part(_simple, CODE), "pvm": Part(_pvm, (*CODE, *PVM)), "mts": Part(_mts, (*CODE, *PVM, *MTS))},
    _report,
    inputs=_texts,
)
