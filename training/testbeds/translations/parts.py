"""The testbed of translations: the parts that every testbed of texts has."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.lake import Lake, Published
from training.testbeds.docs.parts import parts
from training.testbeds.stage import Testbed

ABOUT = "Which scores find the translations that help most with another one of other passages, at an equal budget."


def _texts(lake: Lake, seed: int) -> Sequence[Published]:
    from training.testbeds.translations import texts

    return [texts.publish(lake, seed)]


def _known(lake: Lake, seed: int) -> Sequence[Published] | None:
    from training.testbeds.translations import texts

    found = texts.known(lake, seed)
    return [found] if found else None


def _report(lake: Lake, published: Sequence[Published], missing: str) -> Published:
    from training.analysis.testbed_translations import report

    return report(lake, published, missing)


TESTBED = Testbed("translations", ABOUT, parts("translations", ABOUT), _report, inputs=_texts, known=_known)
