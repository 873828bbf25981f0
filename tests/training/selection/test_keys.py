"""What enters a score's key: all the code that makes it, and no other score's."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from palimpsest.config.selection import METHODS
from palimpsest.lake import REPOSITORY
from training.selection import keys, methods
from training.testbeds.docs import texts
from training.testbeds.docs.parts import TESTBED
from training.testbeds.translations import texts as translations
from training.testbeds.translations.parts import TESTBED as TRANSLATIONS
from training.testbeds.web import texts as web
from training.testbeds.web.parts import TESTBED as WEB

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
    "palimpsest.mixes",  # the marks around a rationale are among the settings
    *("training.selection.methods", "training.selection.keys"),  # of proxies: they only hand over
    *("training.workers", "training.nodes"),  # start processes, and hear what they say
    "training.testbeds.stage",  # what publishes a testbed's parts: of it only a type is taken
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


def missing(code: tuple[str, ...], elsewhere: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """By file of a key the modules that it imports, and that are not in the key; ``elsewhere`` may have them."""
    own = files_of(code)
    assert all(file.exists() for file in own)
    known = own | files_of(elsewhere)
    found = {str(f.relative_to(REPOSITORY)): {n for n in imported(f) - BESIDE if place(n) not in known} for f in own}
    return {file: names for file, names in found.items() if names}


@pytest.mark.parametrize("method", [*METHODS, "proxy"])
def test_a_key_has_all_the_code_that_the_score_imports(method):
    code = keys.PROXY if method == "proxy" else keys.CODE[method]
    trained = keys.PROXY if method == "meta_rater" else ()  # what proxies are trained with is in their own keys
    assert missing((*keys.POOL, *code), trained) == {}


BEDS = ((TESTBED, texts), (WEB, web), (TRANSLATIONS, translations))
PARTS = [(bed, drawn, part) for bed, drawn in BEDS for part in ("texts", *bed.parts)]


@pytest.mark.parametrize(("testbed", "drawn", "part"), PARTS, ids=[f"{bed.name} {part}" for bed, _, part in PARTS])
def test_a_part_of_a_testbed_of_texts_has_all_the_code_that_it_imports_in_its_key_or_its_texts(testbed, drawn, part):
    found = missing(drawn.CODE if part == "texts" else testbed.parts[part].code, drawn.CODE)
    if part not in ("texts", "simple"):  # the module of all arms imports the cheap scores, and 'simple' alone calls all
        cheap = {f"training.selection.{name}" for name in methods.CHEAP}
        assert found.pop("training/testbeds/docs/arms.py", set()) <= cheap
    assert found == {}


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


def test_parts_of_the_documentation_have_no_code_that_they_do_not_run():
    of = {name: {file.stem for file in files_of(part.code)} for name, part in TESTBED.parts.items()}
    assert {"importance", "tokens", "trigram", "arms"} < set.intersection(*of.values())
    assert {"words", "classifier", "commonness"} < of["simple"]
    assert not of["mts"] & {"pvm", "classifier", "likelihood", "short", "step"}
    assert not of["pvm"] & {"mts", "learned", "classifier", "likelihood", "commonness"}
    assert {"words", "tokenizer", "commonness"} < of["mts"]
    assert "tokenizer" in of["pvm"] & {file.stem for file in files_of(texts.CODE)}
