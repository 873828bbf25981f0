"""What each extractor found as text of one form: ``#`` headings, ``-`` and ``1.`` items, fenced code, rows by tabs.

Tabs and not bars part the cells of a row until the text is scored (`scores` takes rows for no lines of prose);
`extract.table_cells` writes the bars.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from justext.paragraph import Paragraph
    from trafilatura.settings import Document

TAG = re.compile(r"<(/?(?:h[1-6]|p|ul|ol|li|pre|br))\b[^>]*>")
ROW = re.compile(r"^\|(.*)\|\s*$")
RULE = re.compile(r"^\|(?:\s*:?-{3,}:?\s*\|)+\s*$")
MARK = re.compile(r"^ *(?:#{1,6}|-|\d{1,3}\.)(?: +|$)")
BLANK_LINES = re.compile(r"\n\n\n+")
FENCE = "```"
MARKS = {f"h{level}": f"\n\n{'#' * level} " for level in range(1, 7)}
MARKS |= {f"/h{level}": "\n\n" for level in range(1, 7)} | dict.fromkeys(("/li", "br", "/br"), "")
MARKS |= dict.fromkeys(("pre", "/pre"), f"\n{FENCE}\n")
"""Of the tags that mean the same wherever they stand."""


def from_minimal_html(reduced: str) -> str:
    """Resiliparse's ``preserve_formatting='minimal_html'``: headings, paragraphs, lists, preformatted text, breaks."""
    lists: list[int] = []  # per open list: the next number, or 0 if it is not numbered
    first, *rest = TAG.split(reduced)
    parts, code = [_text(first, False)], False
    for tag, piece in zip(rest[::2], rest[1::2], strict=True):
        if tag in MARKS:
            parts.append(MARKS[tag])
            code = tag == "pre" or (code and tag != "/pre")
        elif tag == "li":
            parts.append("\n" + "  " * (len(lists) - 1) + _mark(lists))
        elif tag in ("p", "/p"):
            parts.append("" if lists else "\n\n")
        elif tag in ("ul", "ol"):
            parts.append("" if lists else "\n\n")
            lists.append(int(tag == "ol"))
        else:
            del lists[-1:]
            parts.append("" if lists else "\n\n")
        if piece.strip(" \n") or code:
            parts.append(_text(piece, code))
    return _tidy("".join(parts))


def from_trafilatura(document: Document | None) -> str:
    """Body and comments. The tree is taken without formatting and written with it: asking trafilatura for formatting
    while it extracts changes what it takes for main text.
    """
    if document is None:
        return ""
    from trafilatura.xml import xmltotxt

    trees = [tree for tree in (document.body, document.commentsbody) if tree is not None]
    lines: list[str] = []
    code = False
    for line in "\n".join(xmltotxt(tree, True) for tree in trees).split("\n"):
        code ^= line.lstrip().startswith(FENCE)
        if code or not line.startswith("|"):
            lines.append(line)
        elif not RULE.match(line):
            row = ROW.match(line)
            lines.append("\t".join(cell.strip() for cell in row[1].split("|")) if row else line)
    return _tidy("\n".join(lines))


def from_justext(paragraphs: Iterable[Paragraph]) -> str:
    """The good paragraphs; of their structure jusText keeps the path of tags."""
    written: list[str] = []
    for paragraph in paragraphs:
        if paragraph.is_boilerplate:
            continue
        tags = paragraph.dom_path.split(".")
        level = next((tag[1] for tag in tags if re.fullmatch(r"h[1-6]", tag)), "")
        item = "li" in tags and not level
        text = f"- {paragraph.text}" if item else f"{'#' * int(level)} {paragraph.text}" if level else paragraph.text
        written.append(text if item and written and written[-1].startswith("- ") else f"\n{text}")
    return _tidy("\n".join(written))


def unmarked(text: str) -> str:
    """The text without what this module writes into one: heading and item marks, lines that are fences.

    Quality rules are about what the page says, and count a mark as a symbol, a bullet or a word without a letter. What
    stands between fences or is a table's row has no marks; a line that the page itself begins as a mark does loses that
    beginning too. A text of nothing but marks is left as it is.
    """
    kept: list[str] = []
    code = False
    for line in text.split("\n"):
        if line.strip() == FENCE:
            code = not code
        elif code or "\t" in line:
            kept.append(line)
        elif (said := MARK.sub("", line)) or not line:
            kept.append(said)
    return BLANK_LINES.sub("\n\n", "\n".join(kept)).strip("\n") or text


def _text(piece: str, code: bool) -> str:
    if code:
        return html.unescape(piece.rstrip("\n "))
    if not piece.strip(" \n"):
        return ""
    if "\n" in piece:
        piece = "\n".join([line.strip(" ") for line in piece.split("\n")])
    return html.unescape(piece) if "&" in piece else piece


def _mark(lists: list[int]) -> str:
    if not lists or not lists[-1]:
        return "- "
    lists[-1] += 1
    return f"{lists[-1] - 1}. "


def _tidy(text: str) -> str:
    """Without empty fences; blank lines and spaces before a line's end are `extract.repair`'s."""
    if FENCE in text:
        text = re.sub(rf"\n{FENCE}\n\s*\n?{FENCE}\n", "\n", f"\n{text}\n")
    return text.strip("\n")
