"""The testbed of web text: the parts that every testbed of texts has."""

from __future__ import annotations

from training.testbeds.docs.parts import testbed

ABOUT = "Which scores find clean passages of web text among degraded and generated ones, at an equal budget of tokens."

TESTBED = testbed("web", ABOUT)
