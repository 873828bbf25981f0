"""CPython's own text: the corpus of the guard's experiments, the same on every machine with the same Python."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SHORTEST = 80
"""Characters; a docstring of fewer is a label, not a text."""
LEFT_OUT = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "turtledemo", "ensurepip"}
"""Folders of the standard library that distributions leave out, and those that are not of it."""
OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def cpython_documents() -> list[str]:
    """The help topics and every docstring of the standard library, each text once.

    Some 4,100 documents of 1.9 MB (430,000 tokens) with Python 3.11. Raises FileNotFoundError where the standard
    library's sources are not installed.
    """
    from pydoc_data.topics import topics

    found = [*topics.values(), *(text for file in source_files() for text in _docstrings(file))]
    documents = list(dict.fromkeys(text for text in found if len(text) >= SHORTEST))
    if len(documents) < 1_000:
        raise FileNotFoundError(
            f"{sysconfig.get_path('stdlib')} has {len(documents)} documented texts, not the thousands of a whole "
            "Python; install the standard library's sources (on Debian: libpython3-stdlib)"
        )
    return documents


def source_files() -> list[Path]:
    """The standard library's own modules, in order."""
    root, found = Path(sysconfig.get_path("stdlib")), []
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).parts
        if not LEFT_OUT & set(parts) and parts[0] != "pydoc_data" and not parts[0].startswith("config-"):
            found.append(file)
    return found


def held_out(documents: Sequence, share: float, seed: int) -> tuple[list, list]:
    """The documents in two: those to train on, and a random share of them to test on."""
    order = np.random.default_rng(seed).permutation(len(documents))
    count = round(share * len(documents))
    return [documents[i] for i in sorted(order[count:])], [documents[i] for i in sorted(order[:count])]


def _docstrings(file: Path) -> list[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # such as a template that is no Python yet
        return []
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, OWNERS))
    return [text for text in found if text]
