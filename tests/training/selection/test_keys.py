"""What enters a score's key: all the code that makes it, and no other score's."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from palimpsest.config.selection import METHODS
from palimpsest.lake import REPOSITORY
from training.selection import keys

BESIDE = {
    *(
        "palimpsest.config",
        "palimpsest.config.study",
        "palimpsest.lake",
    ),  # settings and parents have digests of their own
    *("training.loop", "training.processes", "training.documents"),  # of a run: devices, checkpoints, long documents
    *("training.checkpoint", "training.export", "training.points", "training.failure", "training.heap"),
    *("training.delimiters", "palimpsest.packing", "palimpsest.provenance"),
    *("palimpsest.guard.distance", "palimpsest.guard.measure"),  # of 'importance' only folds and lots are taken
    *("training.selection.methods", "training.selection.keys"),  # of proxies: they only hand over
}
"""Modules without which scores come out the same."""


def imported(file: Path) -> set[str]:
    """Modules of this repository that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if place(name) else node.module for name in below}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith(("palimpsest.", "training."))}


def place(module: str) -> Path | None:
    base = REPOSITORY / ("plugins" if module.startswith("palimpsest") else "") / module.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def files_of(code: tuple[str, ...]) -> set[Path]:
    return {file for source in code for file in ((REPOSITORY / source).rglob("*.py") if not source.endswith(".py") else
                                                 [REPOSITORY / source])}  # fmt: skip


@pytest.mark.parametrize("method", [*METHODS, "proxy"])
def test_a_key_has_all_the_code_that_the_score_imports(method):
    own = files_of((*keys.POOL, *(keys.PROXY if method == "proxy" else keys.CODE[method])))
    assert all(file.exists() for file in own)
    for file in own:
        missing = {name for name in imported(file) - BESIDE if place(name) not in own}
        if method == "meta_rater":  # what proxies are trained with is in their own keys
            missing -= {name for name in missing if place(name) in files_of(keys.PROXY)}
        assert not missing, f"{file.relative_to(REPOSITORY)} takes {missing}"


@pytest.mark.parametrize(
    ("method", "other"),
    [
        ("mts", ("pvm", "classifier", "likelihood", "influence", "short", "step")),
        ("pvm", ("mts", "features", "learner", "classifier", "commonness")),
        ("classifier", ("commonness", "likelihood", "target", "short", "model")),
        ("rank", ("likelihood", "classifier", "meta_rater")),
    ],
)
def test_a_key_has_no_code_of_a_score_that_it_does_not_use(method, other):
    assert not {file.stem for file in files_of(keys.CODE[method])} & set(other)
