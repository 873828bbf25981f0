"""What is measured of a seed of texts, part by part, on whatever testbed they are of; the testbed of documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from palimpsest.lake import Lake, Published
from training.selection import keys
from training.testbeds.stage import Part, Tables, Testbed, Watch, watch

FOLDER = "training/testbeds/docs"
CHEAP = tuple(file for score in ("commonness", "likelihood", "classifier") for file in keys.CODE[score])
BENCH = (
    f"{FOLDER}/arms.py",
    *keys.POOL,
    *(f"plugins/palimpsest/guard/{name}.py" for name in ("tokens", "trigram")),
)
"""What every arm is made with; the texts are a parent."""
WEIGHED = (*BENCH, *(f"{FOLDER}/{name}.py" for name in ("learned", "settings")), *keys.CODE["mts"])
CODE = {
    "worth": (*BENCH, f"{FOLDER}/worth.py"),
    "simple": (*BENCH, *CHEAP),
    "rated": (
        *BENCH,
        *CHEAP,
        f"{FOLDER}/rated.py",
        *keys.CODE["meta_rater"],
        *keys.PROXY,
    ),
    "influence": (
        *BENCH,
        *(f"{FOLDER}/{name}.py" for name in ("influence", "settings")),
        *(file for score in ("commonness", "likelihood", "influence") for file in keys.CODE[score]),
    ),
    "pvm": (*BENCH, f"{FOLDER}/settings.py", *keys.CODE["pvm"]),
    "mts": WEIGHED,
    "loss": (*WEIGHED, *(f"{FOLDER}/{name}.py" for name in ("baselines", "reweighted"))),
}
"""On which the figures of each part hang."""
ABOUT = "Which scores find clean texts of CPython's documentation among degraded ones, at an equal budget of tokens."


def testbed(name: str, about: str) -> Testbed:
    """Of texts that ``training.testbeds.<name>.texts`` draws, with the page of ``training.analysis.testbed_<name>``."""

    def inputs(lake: Lake, seed: int) -> Sequence[Published]:
        return [import_module(f"training.testbeds.{name}.texts").publish(lake, seed)]

    def known(lake: Lake, seed: int) -> Sequence[Published] | None:
        found = import_module(f"training.testbeds.{name}.texts").known(lake, seed)
        return [found] if found else None

    def report(lake: Lake, published: Sequence[Published], missing: str) -> Published:
        from training.analysis import testbed

        page = import_module(f"training.analysis.testbed_{name}").PAGE
        return testbed.report(lake, page, published, missing)

    return Testbed(name, about, parts(name, about), report, inputs=inputs, known=known)


def parts(testbed: str, about: str) -> dict[str, Part]:
    """Of a testbed of texts, in whose experiment weights are looked at while they are learned."""
    seen = partial(watch, testbed, about)
    measured: dict[str, Callable[[int, Published], Tables]] = {
        "worth": _worth,
        "simple": _simple,
        "rated": _rated,
        "influence": _influence,
        "pvm": _pvm,
        "mts": partial(_mts, seen),
        "loss": partial(_loss, seen),
    }
    return {name: Part(measure, CODE[name]) for name, measure in measured.items()}


def _worth(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs.arms import Bench
    from training.testbeds.docs.worth import measure

    return {"worth": measure(Bench(texts, seed))}


def _simple(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    bench.simple()
    return bench.tables


def _rated(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs import rated
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    bench.scored(rated.NAME, partial(rated.score, bench))
    return bench.tables


def _influence(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs import influence
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    influence.measure(bench, texts)
    return bench.tables


def _pvm(seed: int, texts: Published) -> Tables:
    from training.selection import pvm
    from training.testbeds.docs import settings
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    read = settings.read(bench.pool, texts)
    for asked in settings.pvm(seed):
        work = partial(pvm.score, bench.pool, read, asked, settings.TRAINING)
        bench.scored(f"PVM, alpha {asked.alpha:g}", work)
    return bench.tables


def _mts(seen: Callable[[int], Watch], seed: int, texts: Published) -> Tables:
    from training.testbeds.docs import learned
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    learned.measure(bench, texts, seen(seed))
    return bench.tables


def _loss(seen: Callable[[int], Watch], seed: int, texts: Published) -> Tables:
    from training.testbeds.docs import baselines
    from training.testbeds.docs.arms import Bench

    bench = Bench(texts, seed)
    baselines.measure(bench, texts, seen(seed))
    return bench.tables


TESTBED = testbed("docs", ABOUT)
