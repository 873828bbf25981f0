"""Review of generations: which defects each has, what the study makes of them, and how faithful it is to its source.

`review_generation` is the entrance; `open_reviewer` loads a strategy's rules once, `Profile` counts what was decided.
Every rule is precise before it is complete: it must leave real text alone, whatever that looks like.
"""

from palimpsest.generate.review.decide import DEFECTS, Action, decide
from palimpsest.generate.review.drops import DROPS, dropped
from palimpsest.generate.review.faithfulness import faithfulness
from palimpsest.generate.review.profile import Profile
from palimpsest.generate.review.reviewer import JOINT, Part, Reviewed, Reviewer, open_reviewer, review_generation

CODE = ("plugins/palimpsest/generate/review",) + tuple(
    f"plugins/palimpsest/{name}.py" for name in ("ingest/langid", "ingest/pii", "words")
)
"""What a published review was made with, besides `Reviewer.canonical`."""

__all__ = [
    "CODE",
    "DEFECTS",
    "DROPS",
    "JOINT",
    "Action",
    "Part",
    "Profile",
    "Reviewed",
    "Reviewer",
    "decide",
    "dropped",
    "faithfulness",
    "open_reviewer",
    "review_generation",
]
