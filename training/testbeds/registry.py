"""Every testbed by its name, and the page of them all."""

from __future__ import annotations

from palimpsest.lake import Lake, Published
from training.testbeds.digits.parts import TESTBED as DIGITS
from training.testbeds.docs.parts import TESTBED as DOCS
from training.testbeds.stage import Testbed, measured
from training.testbeds.translations.parts import TESTBED as TRANSLATIONS
from training.testbeds.web.parts import TESTBED as WEB

TESTBEDS: dict[str, Testbed] = {own.name: own for own in (DIGITS, DOCS, WEB, TRANSLATIONS)}


def overview(lake: Lake) -> Published:
    """The page that holds all testbeds side by side, of what this code has measured."""
    from training.analysis.testbed_all import report

    return report(lake, {name: measured(lake, own) for name, own in TESTBEDS.items()})
