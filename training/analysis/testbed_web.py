"""The page of the testbed of web text."""

from __future__ import annotations

from training.analysis.testbed_texts import Told
from training.testbeds.web.texts import WORTH

TOLD = Told(
    "web",
    "Selection of web text: which scores find what is worth learning",
    "Passages of 200 words of 2,400 documents of the web text (encyclopedia, news, documentation, health pages, "
    "government pages, textbooks, novels): a fifth is the test, a tenth of the rest is vouched for, and of what is "
    "chosen from half the texts are worse, as many of each of nine kinds: six degraded, rephrases that a large "
    "language model wrote of other pages, and samples of a word trigram of what is vouched for (*self once*) and of a "
    "trigram of such samples (*self twice*).",
    "How much of the fall in perplexity that some clean texts bring to half of the clean ones as many of the kind "
    "bring; the grades were set by this, on a seed of their own, with 0 for what does harm.",
    WORTH,
)
PAGE = TOLD.page()
