"""What is measured of a seed of documentation, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from palimpsest.lake import Lake, Published
from training.selection import keys
from training.testbeds.stage import Part, Tables, Testbed, watch

BENCH = (
    "training/testbeds/docs/arms.py",
    *keys.POOL,
    *(f"plugins/palimpsest/guard/{name}.py" for name in ("tokens", "trigram")),
)
"""What every arm is made with; the texts are a parent."""
SIMPLE = (*BENCH, *keys.CODE["commonness"], *keys.CODE["likelihood"], *keys.CODE["classifier"])
PVM = (*BENCH, "training/testbeds/docs/settings.py", *keys.CODE["pvm"])
MTS = (*BENCH, *(f"training/testbeds/docs/{name}.py" for name in ("learned", "settings")), *keys.CODE["mts"])
ABOUT = "Which scores find clean texts of CPython's documentation among degraded ones, at an equal budget of tokens."


def simple(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    bench.simple()
    return bench.tables


def pvm(seed: int, texts: Published) -> Tables:
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


def mts(testbed: Testbed, seed: int, texts: Published) -> Tables:
    """``testbed``: in whose experiment it is looked at while it learns."""
    from training.testbeds.docs import learned
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    learned.measure(bench, texts, watch(testbed, seed))
    return bench.tables


def _mts(seed: int, texts: Published) -> Tables:
    return mts(TESTBED, seed, texts)


def _texts(lake: Lake, seed: int) -> Sequence[Published]:
    from training.testbeds.docs import texts

    return [texts.publish(lake, seed)]


def _known(lake: Lake, seed: int) -> Sequence[Published] | None:
    from training.testbeds.docs import texts

    found = texts.known(lake, seed)
    return [found] if found else None


def _report(lake: Lake, published: Sequence[Published], missing: str) -> Published:
    from training.analysis.testbed_docs import report

    return report(lake, published, missing)


TESTBED = Testbed(
    "docs",
    ABOUT,
    {"simple": Part(simple, SIMPLE), "pvm": Part(pvm, PVM), "mts": Part(_mts, MTS)},
    _report,
    inputs=_texts,
    known=_known,
)
