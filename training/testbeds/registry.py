"""Every testbed by its name."""

from __future__ import annotations

from training.testbeds.digits.parts import TESTBED as DIGITS
from training.testbeds.docs.parts import TESTBED as DOCS
from training.testbeds.stage import Testbed
from training.testbeds.web.parts import TESTBED as WEB

TESTBEDS: dict[str, Testbed] = {own.name: own for own in (DIGITS, DOCS, WEB)}
