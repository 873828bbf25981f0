"""A source, a faithful rephrase of it, and one review at its defaults."""

from __future__ import annotations

from palimpsest.config import Review
from palimpsest.generate.requests import Rendered
from palimpsest.generate.review import Part, Reviewed, Reviewer, review_generation

SOURCE = (
    "The lighthouse at Skerry Point was built in 1847 by the engineer Martha Oakley. Its tower is 32 metres high and "
    "its lamp could be seen from 18 nautical miles away. In the winter of 1903 a storm broke the lower windows, and "
    "the keeper, Thomas Reed, burned oil in the open for 11 nights so that the mail boats from Harwick would find the "
    "harbour. The light has been automatic since 1971. Visitors may climb the 184 steps on Sundays."
)
REPHRASE = (
    "Skerry Point has had a lighthouse since 1847, when the engineer Martha Oakley completed a tower of 32 metres. "
    "Sailors could make out its lamp at a distance of 18 nautical miles. A winter storm in 1903 destroyed the windows "
    "at the foot of the tower; for 11 nights Thomas Reed, who kept the light, burned oil in the open air to guide the "
    "mail boats from Harwick into the harbour. Automation followed in 1971. On Sundays, the 184 steps are open to the "
    "public."
)
PROMPT = Rendered(
    messages=(
        ("system", "You write text that a program takes as it is, without a remark of your own before or after it."),
        (
            "user",
            f"Document:\n{SOURCE}\n\n"
            "Write a full article of the same content in high-quality prose.\n\n"
            "Rephrased article:",
        ),
    )
)


def review_of(
    text: str, *, source: str = SOURCE, kind: str = "rephrase", prompt: Rendered | None = PROMPT, **settings
) -> Reviewed:
    """The review of one answer; ``settings`` are those of `config.Review`."""
    reviewer = Reviewer(kind, Review.model_validate(settings))
    return review_generation([Part(text, prompt, "stop")], document=source, reviewer=reviewer)
