"""The page of the testbed of translations."""

from __future__ import annotations

from training.analysis.testbed_texts import Told
from training.testbeds.translations.texts import WORTH

TOLD = Told(
    "translations",
    "Selection of translations: which of them help most with the target's own",
    "Passages of ten verses: 160 in one modern translation (BSB) are vouched for, 200 of other chapters stand in the "
    "pool in eight other translations each, and 300 of other chapters again, of the first, are the test. No text is "
    "degraded. The oracle knows which translations help most on the whole, four of which fill the budget, and nothing "
    "of single passages: a score may well go farther than it does.",
    "How much of the fall in perplexity that some passages of the target bring to as many others as many passages of a "
    "translation bring; the grades were set by this, on a seed of their own, with 0 for what does harm.",
    WORTH,
)
PAGE = TOLD.page()
