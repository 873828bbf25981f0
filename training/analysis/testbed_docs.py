"""The page of the testbed of documentation."""

from __future__ import annotations

from training.analysis.testbed_texts import Told
from training.testbeds.docs.texts import WORTH

TOLD = Told(
    "docs",
    "Selection of documentation: which scores find what is worth learning",
    "CPython's help topics and docstrings: a fifth is the test, a tenth of the rest is vouched for, and of what is "
    "chosen from half the texts are made worse in eight ways, as many in each.",
    "How much of the fall in perplexity that some clean texts bring to half of the clean ones as many of the kind "
    "bring; the grades are those of the design, set before anything was measured.",
    WORTH,
)
PAGE = TOLD.page()
