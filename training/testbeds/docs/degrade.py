"""Texts made worse in ways that are known: words in disorder, misread letters, program code, boilerplate, samples.

A text is a list of words and marks. What comes out is about as long as what went in, but for samples of a model, whose
lengths are the model's own.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from palimpsest.guard.corpus import OWNERS, source_files
from palimpsest.guard.tokens import TOKEN

MISREAD = {
    **{"a": "o", "b": "h", "c": "e", "d": "cl", "e": "c", "f": "t", "g": "q", "h": "b", "i": "l", "l": "1", "m": "rn"},
    **{"n": "ri", "o": "0", "r": "t", "s": "5", "t": "f", "u": "v", "v": "u", "w": "vv", "0": "O", "1": "l", "5": "S"},
}
"""What a letter is taken for; one that is not here is lost."""
NOTICES = (
    "This {a} is provided as is , without {b} of any kind , and may change at any time without {a} .",
    "For more {a} , see the {b} section of this {c} or contact your {a} .",
    "Please read the following {a} carefully before you use this {b} or any {c} of it .",
    "All rights reserved . No {a} of this {b} may be reproduced without the {c} of its owner .",
    "This {a} was generated automatically . Do not edit this {b} by hand .",
    "If you have any questions about this {a} , please do not hesitate to ask for {b} .",
    "The {a} described here is subject to the terms of the {b} , which is part of this {c} .",
    "Click here to return to the {a} , or use the {b} to go to the next {c} .",
)
NOUNS = ("document", "page", "section", "information", "software", "notice", "support", "license", "warranty", "index")

Words = list[str]
Worse = Callable[[Words, np.random.Generator], Words]
Grades = Mapping[str, tuple[float, Worse | None]]
"""By kind what a text of it is worth, and what makes it; nothing does where texts of a kind are drawn all together."""


def shuffled(share: float) -> Worse:
    """So many of the words, anywhere in the text, change places among themselves."""

    def worse(words: Words, random: np.random.Generator) -> Words:
        places = random.choice(len(words), round(share * len(words)), replace=False)
        found = list(words)
        for place, other in zip(places, random.permutation(places), strict=True):
            found[place] = words[other]
        return found

    return worse


def misread(share: float) -> Worse:
    """So many of the letters and digits are taken for others, or lost."""

    def worse(words: Words, random: np.random.Generator) -> Words:
        text = " ".join(words)
        hit = random.random(len(text)) < share
        letters = (MISREAD.get(c.lower(), "") if h and c.isalnum() else c for c, h in zip(text, hit, strict=True))
        return TOKEN.findall("".join(letters))

    return worse


def code(words: Words, random: np.random.Generator) -> Words:
    """As many words of the standard library's own functions, without their docstrings."""
    found: Words = []
    while len(found) < len(words):
        found += functions(_files()[random.integers(len(_files()))])
    start = random.integers(len(found) - len(words) + 1)
    return found[start : start + len(words)]


def boilerplate(words: Words, random: np.random.Generator) -> Words:
    """Notices that say nothing, one after the other."""
    found: Words = []
    while len(found) < len(words):
        nouns = dict(zip("abc", random.choice(NOUNS, 3, replace=False), strict=True))
        found += NOTICES[random.integers(len(NOTICES))].format(**nouns).split()
    return found[: len(words)]


GRADES: Grades = {
    "clean": (1.0, None),
    "shuffled 30": (0.5, shuffled(0.3)),
    "shuffled 100": (0.1, shuffled(1.0)),
    "misread 10": (0.5, misread(0.1)),
    "misread 30": (0.1, misread(0.3)),
    "code": (0.2, code),
    "boilerplate": (0.1, boilerplate),
    "sampled once": (0.5, None),
    "sampled twice": (0.3, None),
}


@cache
def functions(file: Path) -> Words:
    """The words of the functions of a source file, their docstrings and comments left out."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # such as a template that is no Python yet
        return []
    for node in ast.walk(tree):
        if isinstance(node, OWNERS) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    kept = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return TOKEN.findall("\n".join(ast.unparse(node) for node in kept))


@cache
def _files() -> list[Path]:
    return [file for file in source_files() if file.stat().st_size > 4_000]
