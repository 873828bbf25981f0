"""The testbed of web text: the parts that every testbed of texts has."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.lake import Lake, Published
from training.testbeds.docs.parts import parts
from training.testbeds.stage import Testbed

ABOUT = "Which scores find clean passages of web text among degraded and generated ones, at an equal budget of tokens."


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


TESTBED = Testbed("web", ABOUT, parts("web", ABOUT), _report, inputs=_texts, known=_known)
