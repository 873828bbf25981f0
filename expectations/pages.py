"""How Data Docs look: Great Expectations' own content in pages that need no network.

The stock pages load styles, scripts and a logo from seven foreign hosts: without them the index is empty, and with
them each of those hosts sees every reader. These views render the same content with one inlined style sheet.
"""

from __future__ import annotations

from pathlib import Path

from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader

TEMPLATES = Path(__file__).parent / "templates"


class GatePage(DefaultJinjaPageView):
    """A page of one gate run, one suite."""

    _template = "result.html.j2"

    def __init__(self, **directories) -> None:
        super().__init__(**directories)
        self.env.loader = ChoiceLoader([FileSystemLoader(TEMPLATES), self.env.loader])


class GateIndex(GatePage):
    """The list of all gate runs, newest first."""

    _template = "index.html.j2"
