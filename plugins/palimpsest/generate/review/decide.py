"""What becomes of a generation: the study's action for each defect, and the one that decides."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from palimpsest.config import Review

Action = Literal["keep", "drop", "again"]
DEFECTS = tuple(name for name, field in Review.model_fields.items() if isinstance(field.default, str))
"""Names of defects, in the order in which they decide: those of `config.Review`."""


def decide(
    defects: Collection[str], review: Review, attempt: int, *, repeatable: bool = True
) -> tuple[Action, str | None]:
    """The action, and the defect that is its reason (None: nothing was wrong enough).

    'drop' wins over 'again', 'again' over 'keep'. One that has been asked for again ``review.attempts`` times is
    dropped; so is one whose engine would only say the same again (not ``repeatable``: recordings, augmentation,
    temperature 0). A defect that 'strip' has repaired is kept and stays marked.
    """
    actions = {name: getattr(review, name) for name in DEFECTS if name in defects}
    for action in ("drop", "again"):
        for name, chosen in actions.items():
            if chosen == action:
                again = action == "again" and repeatable and attempt < review.attempts
                return ("again" if again else "drop"), name
    return "keep", None
