"""``docs/results/selection_digits.md``: the testbed of digits against what was measured before, from the lake.

``python -m training testbed digits --seeds 10`` measures what is missing and writes the page; nothing in it is
written by hand. What is asked, and the figures in brackets, are those of the project's derivation of the method of
Du et al. 2026 (2606.00571), measured before this implementation was written.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from palimpsest.lake import REPOSITORY, Facts, Lake, Published
from training.analysis.markdown import rows_of
from training.analysis.results import duration
from training.analysis.testbed_checks import ALL, DYNAMICS, FLOORED, TOLD, checks
from training.analysis.testbed_figures import FIGURES, draw
from training.analysis.testbed_tables import ARM, CHECK, FEATURE, PAIR, batches, by_arm, by_batch, by_feature, paired

NAME = "selection_digits"
TABLES = ("quality", "noise", "arms", "trace", "carried")
"""Of the parts together (`training.testbeds.stage`)."""
CODE = tuple(
    f"training/analysis/{name}.py"
    for name in (
        *("testbed", "testbed_checks", "testbed_figures", "testbed_tables"),
        *("markdown", "paired", "plots", "results", "style"),
    )
)

DEFINITIONS = (
    f"Dynamics together are told twice. `{DYNAMICS}` is of every column recorded: loss, its moving average, gradient "
    "norm, error and forgetting at three epochs. So the acceptance figures 5b are meant, and it decides them: they "
    "stand under a table of all these sorts and ask for the dynamics, jointly, without naming a choice. "
    f"`{TOLD}` is of the three that MTS's network is told. It was taken in place of the former after seed 0 had been "
    "seen, on which position was not 0.1 ahead of every column together; so it is shown, and decides nothing."
)
"""Of the joint figures of dynamics."""

Rows = Sequence[Mapping]


def report(lake: Lake, published: Sequence[Published]) -> Published:
    """``testbeds/digits/report``: the page and its figures, of the parts and seeds that are given.

    Raises ValueError where a part that the page cannot do without was not measured.
    """
    tables = {name: [row for one in published for row in _read(one, name)] for name in TABLES}
    for name in ("quality", "noise"):
        if not tables[name]:
            raise ValueError(f"part '{name}' of the testbed is not measured yet; leave out --parts, or name it there")
    arms = {row["arm"] for row in tables["arms"]}
    for name, arm in (("simple", ALL), ("learned", FLOORED)):
        if arm not in arms:
            raise ValueError(f"part '{name}' of the testbed is not measured yet; leave out --parts, or name it there")

    def write(directory: Path) -> Facts:
        (directory / NAME).mkdir()
        figures = draw(tables, directory / NAME)
        (directory / f"{NAME}.md").write_text(render(tables, published, figures), encoding="utf-8")
        return Facts(extra={"headline": headline(tables)})

    return lake.publish("testbeds/digits/report", write, parents=published, code=CODE)


def copied(published: Published, folder: Path | None = None) -> Path:
    """The page's place in ``docs/results``, where it now is with its figures."""
    folder = folder or REPOSITORY / "docs" / "results"
    shutil.rmtree(folder / NAME, ignore_errors=True)
    shutil.copytree(published.file(f"{NAME}.md").parent / NAME, folder / NAME)
    return Path(shutil.copy(published.file(f"{NAME}.md"), folder / f"{NAME}.md"))


def headline(tables: Mapping[str, Rows]) -> str:
    """How much of what is asked is met, and what is not."""
    found, seeds = checks(tables), len({row["seed"] for row in tables["arms"]})
    missed = [check for check in found if not check.holds]
    told = f"{len(found) - len(missed)} of {len(found)} acceptance figures are met over {seeds} seed{'s' * (seeds > 1)}"
    return told + "".join(f"; not: {check.asked} ({check.found})" for check in missed) + "."


def render(tables: Mapping[str, Rows], published: Sequence[Published], figures: Sequence[str]) -> str:
    """The page in Markdown."""
    arms = tables["arms"]
    parts = [
        "# Selection of digits: learned weights against simpler ways",
        f"**{headline(tables)}**",
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
        *(
            f"### {FIGURES[name][0]}\n\n{FIGURES[name][1]}\n\n![{FIGURES[name][0]}]({NAME}/{name}.png)"
            for name in figures
        ),
        "## Cost and hardware",
        _cost(published),
        "## Once more",
        "```\nairflow dags trigger testbed_digits\npython -m training testbed digits\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cost(published: Sequence[Published]) -> str:
    extras = [one.extra for one in published]
    wall, used = (sum(extra[name] for extra in extras) for name in ("seconds", "cpu_seconds"))
    facts = {
        "Hardware": "; ".join(sorted({extra["hardware"] for extra in extras})) + "; one thread",
        "CPU time": duration(used),
        "Wall clock, in sum": f"{duration(wall)}, on a machine that did other work",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _read(published: Published, name: str) -> list[dict]:
    file = published.path / f"{name}.parquet"
    return pq.read_table(file).to_pylist() if file.exists() else []
