"""What of a source file is part of a dataset's key."""

from __future__ import annotations

import ast

import pytest

from palimpsest import manifest
from palimpsest.manifest import REPOSITORY, what_runs

SOURCE = '''\
"""A module."""

from __future__ import annotations  # at the top


LIMIT = 3  # pages
"""Of a site."""
PROMPT = """Write a page.

# Title~~~
"""  # kept to the last space


def double(text: str) -> str:
    """Twice the text.

    And no more.
    """
    # not thrice
    return (
        "#" + text

        + f"{text}  # {LIMIT}"
    )
'''.replace("~", " ")
RUNS = '''\
from __future__ import annotations
LIMIT = 3
PROMPT = """Write a page.

# Title~~~
"""
def double(text: str) -> str:
    return (
        "#" + text
        + f"{text}  # {LIMIT}"
    )'''.replace("~", " ")


def test_comments_docstrings_and_blank_lines_are_left_out_and_strings_stay():
    assert what_runs(SOURCE) == RUNS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("# Title   ", "# Title"),
        ("page.\n\n#", "page.\n#"),
        ('"#" + text', '"##" + text'),
        ("  # {LIMIT}", "  # {LIMIT} "),
        ("return (", "return not ("),
        ("def double", "def twice"),
    ],
)
def test_whatever_else_changes_is_seen(old, new):
    assert old in SOURCE
    assert what_runs(SOURCE.replace(old, new)) != RUNS


def test_of_every_module_of_the_platform_what_is_left_is_what_runs():
    def told(source: str) -> str:
        """The syntax tree without statements that are but a string."""
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(getattr(node, "body", None), list):
                is_text = [isinstance(s, ast.Expr) and isinstance(getattr(s.value, "value", 0), str) for s in node.body]
                node.body = [own for own, text in zip(node.body, is_text, strict=True) if not text]
        return ast.dump(tree)

    files = [file for name in ("plugins", "training") for file in sorted((REPOSITORY / name).rglob("*.py"))]
    assert len(files) > 300
    for file in files[::5]:
        source, left = file.read_text(), what_runs(file.read_text())
        try:
            assert told(left) == told(source), file
        except SyntaxError:  # a class that had but a docstring
            assert "class " in source, file


def test_a_comment_leaves_the_key_as_it_is_and_a_line_of_code_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "REPOSITORY", tmp_path)
    file = tmp_path / "stage.py"
    file.write_text(SOURCE)
    before = manifest.digest_code("stage.py")
    file.write_text(SOURCE.replace("# pages", "# of them").replace("And no more.", "No more."))
    assert manifest.digest_code("stage.py") == before
    file.write_text(SOURCE.replace("LIMIT = 3", "LIMIT = 4"))
    assert manifest.digest_code("stage.py") != before
    (tmp_path / "model.sql").write_text("select 1 -- one")
    asked = manifest.digest_code("model.sql")
    (tmp_path / "model.sql").write_text("select 1 -- the one")
    assert manifest.digest_code("model.sql") != asked, "of other languages every byte"
