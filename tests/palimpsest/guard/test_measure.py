"""One pass over a stream and its parts finds what a pass over each finds."""

from __future__ import annotations

import numpy as np
import pytest

from palimpsest.guard.duplicates import RUN, Quotes
from palimpsest.guard.judge import judge
from palimpsest.guard.measure import Reference, watch, watch_parts
from palimpsest.guard.thresholds import DEFAULTS
from palimpsest.words import SharedRuns


def texts(seed: int, words: int, many: int = 120) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"w{n}" for n in random.zipf(1.3, 120) % words) for _ in range(many)]


def test_a_stream_and_its_parts_are_measured_in_one_pass_as_by_themselves():
    real = {"a": texts(0, 3000), "b": texts(1, 3000)}
    whole = Reference([*real["a"], *real["b"]])
    parts = {name: Reference(own, vocabulary=whole.vocabulary) for name, own in real.items()}
    written = (
        [("a", text) for text in texts(2, 3000)] + [("b", text) for text in texts(3, 90)] + [("a", ""), ("b", "w1")]
    )
    written += [(None, text) for text in real["a"][:20]]
    held_out = texts(4, 50)
    together, by_part = watch_parts(written, whole, parts, held_out=held_out)

    def said(found) -> list:
        return [(v.gate, v.measure, v.outcome, v.value, v.sentence) for v in judge(found, DEFAULTS, "texts")]

    assert said(together) == said(watch([text for _, text in written], whole, held_out=held_out))
    for name, reference in parts.items():
        assert said(by_part[name]) == said(watch([text for part, text in written if part == name], reference))
    assert together.duplicates.copied == 20 and by_part["a"].duplicates.copied == 0


@pytest.mark.parametrize("held_out", [[], ["short"], texts(5, 6, 4)], ids=["none", "short", "some"])
def test_quotes_are_those_found_word_by_word(held_out):
    """Texts of so few words that some share thirteen in a row."""
    runs, quotes, expected = SharedRuns(held_out, RUN), Quotes(held_out), 0
    for text in [*texts(6, 6), "", "w1", *held_out]:
        expected += next(runs.hits(text), None) is not None
        quotes.add(text)
    assert quotes.quoting == expected
    assert (expected > 3) == (len(held_out) > 1)
