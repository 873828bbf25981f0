"""The page of the testbed of digits: what was found against what was measured before.

What is asked, and the figures in brackets, are those of the project's derivation of the method of Du et al. 2026
(2606.00571), measured before this implementation was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from palimpsest.lake import Lake, Published
from training.analysis import testbed
from training.analysis.markdown import rows_of
from training.analysis.testbed import Page, cost, drawn
from training.analysis.testbed_checks import ALL, DYNAMICS, FLOORED, TOLD, checks
from training.analysis.testbed_figures import Figures, carried, draw, noise, weights
from training.analysis.testbed_seeds import CHECK
from training.analysis.testbed_tables import ARM, FEATURE, PAIR, batches, by_arm, by_batch, by_feature, paired

DEFINITIONS = (
    f"Dynamics together are told twice. `{DYNAMICS}` is of every column recorded: loss, its moving average, gradient "
    "norm, error and forgetting at three epochs. So the acceptance figures 5b are meant, and it decides them: they "
    "stand under a table of all these sorts and ask for the dynamics, jointly, without naming a choice. "
    f"`{TOLD}` is of the three that MTS's network is told. It was taken in place of the former after seed 0 had been "
    "seen, on which position was not 0.1 ahead of every column together; so it is shown, and decides nothing."
)
"""Of the joint figures of dynamics."""

BATCHES = ("MTS 64/64", "MTS 256/256", "MTS 1024/1024", FLOORED)
SORTS = ("real", "good", "mislabelled", "noise", "rotated", "mean")
"""As `training.testbeds.digits.data` has them, which cannot be imported here: it loads torch."""
FIGURES: Figures = {
    "noise": (
        "Signal over noise, and effective examples, while weights are learned",
        "Means over seeds; 8 independent gradients every 100 steps, so a trend. Dashed: 32 examples, below which the "
        "alarm rings.",
        partial(noise, arms=BATCHES),
    ),
    "weights": (
        "Who has the weight",
        f"{FLOORED}; means over seeds, whole pool.",
        partial(weights, arm=FLOORED, sorts=SORTS),
    ),
    "features": (
        "Which features carry it",
        f"{FLOORED}, at the end: AUROC of good against bad that is lost where a feature is shuffled; points are seeds.",
        partial(carried, arm=FLOORED),
    ),
}

Rows = Sequence[Mapping]


def report(lake: Lake, published: Sequence[Published], missing: str = "") -> Published:
    """``testbeds/digits/report``, of the parts and seeds that are given."""
    return testbed.report(lake, PAGE, published, missing)


def check(tables: Mapping[str, Rows]) -> None:
    """Raises ValueError where a part that the page cannot do without was not measured."""
    arms = {row["arm"] for row in tables["arms"]}
    found = {"quality": tables["quality"], "noise": tables["noise"], "simple": ALL in arms, "learned": FLOORED in arms}
    for part, there in found.items():
        if not there:
            raise ValueError(f"part '{part}' of the testbed is not measured yet; leave out --parts, or name it there")


def headline(tables: Mapping[str, Rows]) -> str:
    """How much of what is asked is met, and what is not."""
    found, seeds = checks(tables), len({row["seed"] for row in tables["arms"]})
    missed = [check for check in found if not check.holds]
    told = f"{len(found) - len(missed)} of {len(found)} acceptance figures are met over {seeds} seed{'s' * (seeds > 1)}"
    return told + "".join(f"; not: {check.asked} ({check.found})" for check in missed) + "."


def render(
    tables: Mapping[str, Rows], published: Sequence[Published], figures: Sequence[str], missing: str = ""
) -> str:
    """The page in Markdown; ``missing`` says what is not in it."""
    arms = tables["arms"]
    parts = [
        "# Selection of digits: learned weights against simpler ways",
        f"**{headline(tables)}**",
        missing,
        "Of scikit-learn's digits 60 are real, 100 validate, 100 say when to stop, 837 test; 4,000 stand over 700 "
        "hidden ones: 35% good copies, 30% under the next label, 10% noise, 15% turned, 10% copies of their "
        "class's mean. MTS `a/b`: hypergradients of `a` examples, learner's batches of `b`; no floor unless it says "
        "so. Every retrained learner has 800 steps of 128 examples, from scratch. Means over seeds ± standard "
        "deviation; in brackets the 95% interval of the mean (Student's, paired where it is a difference).",
        rows_of("## Acceptance", checks(tables), CHECK),
        rows_of("## Arms", by_arm(arms), ARM),
        rows_of("## What makes the difference", paired(arms), PAIR),
        rows_of("## Signal over noise of the hypergradient", by_batch(tables["noise"]), batches(tables["noise"])),
        "GSNR and, below it, effective examples of a batch and what each is worth; geometric means over the seeds. "
        "100 independent gradients each, nothing moving; below 0.0001 GSNR counts as that. "
        "Peaked: after 400 steps at 1024/1024 without a floor.",
        rows_of("## What features tell of good and bad", by_feature(tables["quality"]), FEATURE),
        "AUROC by itself; losses, errors, gradient norms and the distance from the median with their sign turned. "
        "Numbers after `_` of dynamics are epochs. Together: boosted trees, five folds.",
        DEFINITIONS,
        "## Figures",
        *drawn(FIGURES, figures, PAGE.name),
        "## Cost and hardware",
        cost(published),
        "## Once more",
        "```\nairflow dags trigger testbed_digits\npython -m training testbed digits\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


PAGE = Page(
    "digits",
    ("quality", "noise", "arms", "trace", "carried"),
    check,
    partial(draw, FIGURES),
    render,
    headline,
    code=tuple(
        f"training/analysis/{name}.py"
        for name in ("testbed_checks", "testbed_digits", "testbed_figures", "testbed_tables")
    ),
)
