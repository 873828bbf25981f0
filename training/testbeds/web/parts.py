"""What is measured of a seed of web text, part by part: what the testbed of documentation has, worth and influence."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.lake import Lake, Published
from training.selection import keys
from training.testbeds.docs import parts
from training.testbeds.stage import Part, Tables, Testbed

WORTH = (*parts.BENCH, "training/testbeds/web/worth.py")
INFLUENCE = (
    *parts.BENCH,
    "training/testbeds/web/influence.py",
    "training/testbeds/docs/settings.py",
    *(file for score in ("commonness", "likelihood", "influence") for file in keys.CODE[score]),
)
ABOUT = "Which scores find clean passages of web text among degraded and generated ones, at an equal budget of tokens."


def _worth(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs.arms import Bench
    from training.testbeds.web.worth import measure

    return {"worth": measure(Bench(texts, seed))}


def _influence(seed: int, texts: Published) -> Tables:
    from training.testbeds.docs.arms import Bench
    from training.testbeds.web import influence

    bench = Bench(texts, seed)
    influence.measure(bench, texts)
    return bench.tables


def _mts(seed: int, texts: Published) -> Tables:
    return parts.mts(TESTBED, seed, texts)


def _texts(lake: Lake, seed: int) -> Sequence[Published]:
    from training.testbeds.web import texts

    return [texts.publish(lake, seed)]


def _known(lake: Lake, seed: int) -> Sequence[Published] | None:
    from training.testbeds.web import texts

    found = texts.known(lake, seed)
    return [found] if found else None


def _report(lake: Lake, published: Sequence[Published], missing: str) -> Published:
    from training.analysis.testbed_web import report

    return report(lake, published, missing)


TESTBED = Testbed(
    "web",
    ABOUT,
    {
        "worth": Part(_worth, WORTH),
        "simple": Part(parts.simple, parts.SIMPLE),
        "influence": Part(_influence, INFLUENCE),
        "pvm": Part(parts.pvm, parts.PVM),
        "mts": Part(_mts, parts.MTS),
    },
    _report,
    inputs=_texts,
    known=_known,
)
