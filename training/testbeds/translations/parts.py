"""The testbed of translations: the parts that every testbed of texts has."""

from __future__ import annotations

from training.testbeds.docs.parts import testbed

ABOUT = "Which scores find the translations that help most with another one of other passages, at an equal budget."

TESTBED = testbed("translations", ABOUT)
