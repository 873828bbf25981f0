from __future__ import annotations

from palimpsest.generate.review import Part, Profile, Reviewer, review_generation
from tests.palimpsest.generate.review.conftest import PROMPT, REPHRASE, SOURCE

TEXTS = [
    REPHRASE,
    f"Here is the rewritten article:\n\n{REPHRASE}",
    "I'm sorry, but I can't assist with that.",
    "I'm sorry, but I can't assist with that. Ask keeper@skerry.example.",
]


def profile() -> Profile:
    found = Profile()
    for strategy, kind in (("rephrase", "rephrase"), ("control", "augment")):
        reviewer = Reviewer(kind, repeatable=False)
        for g, text in enumerate(TEXTS):
            parts = [Part(text, PROMPT)]
            found.add(strategy, f"{strategy}-{g}", review_generation(parts, document=SOURCE, reviewer=reviewer))
    return found


def test_each_defect_has_its_counts_and_examples():
    def row(defect, found, kept, dropped, reason, examples):
        return {
            "strategy": "rephrase",
            "defect": defect,
            "found": found,
            "share": found / 4,
            "kept": kept,
            "dropped": dropped,
            "dropped_for_it": reason,
            "examples": [f"rephrase-{g}" for g in examples],
        }

    assert profile().rows() == [
        row("refusal", 2, 0, 2, 1, [2, 3]),
        row("preamble", 1, 1, 0, 0, [1]),
        row("pii", 1, 0, 1, 1, [3]),
    ]


def test_a_log_gets_one_line_per_strategy():
    assert profile().lines() == [
        "control: 4 reviewed; no defect",
        "rephrase: 4 reviewed; refusal 50.00% (1 dropped for it), preamble 25.00% (0 dropped for it), "
        "pii 25.00% (1 dropped for it)",
    ]
