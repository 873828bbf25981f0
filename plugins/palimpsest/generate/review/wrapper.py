"""Whole texts inside a code fence, quotation marks or a pair of tags: what stands around a text is not of it."""

from __future__ import annotations

import re

FENCE = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})[ \t]*([^\n`]*?)[ \t]*$", re.MULTILINE)
PROSE = frozenset(["markdown", "md", "text", "txt", "plaintext", "plain", "wiki", "wikitext", "mediawiki", "article"])
"""What models call a fence around prose; a fence with any other name is code, and content."""
QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "「": "」", "『": "』"}
TAG = re.compile(
    r"<((?:re(?:written|phrased|vised|sult|sponse)|article|answer|document|final|output|text|tutorial|faq)[\w-]{0,30})>"
    r"\s*(.*?)\s*</\1>",
    re.IGNORECASE | re.DOTALL,
)
"""Tags that say 'this is the answer'; any other is markup, and content."""
SPEECH = 20
"""Words below which a text in quotation marks is a quotation."""
OPENER = re.compile(r"(?:^|[\s(\[—–-])$")


def wrapped(text: str, source: str) -> tuple[str, str] | None:
    """(the text inside, what it was wrapped in), or None; a wrapper of the source's own is content."""
    inside, source = text.strip(), source.lstrip()
    if inside[:3] in ("```", "~~~"):
        return None if source.startswith(inside[:3]) else _fenced(inside)
    if inside[:1] in QUOTES:
        speech = "\n" not in inside and any(mark in source for mark in QUOTES)
        return None if speech or source[:1] in QUOTES else _quoted(inside)
    if inside[:1] == "<" and (match := TAG.fullmatch(inside)) and match[2]:
        tag = f"<{match[1]}"
        if tag.lower() not in source.lower() and inside.count(tag) == 1:
            return match[2], f"the tag {tag}>"
    return None


def _fenced(text: str) -> tuple[str, str] | None:
    """The inside of the fence that opens the text, if it is the one that closes it, or if none does."""
    first, *others = FENCE.finditer(text)
    mark, name = first[1], first[2].lower()
    fences = [m for m in others if m[1][0] == mark[0] and len(m[1]) >= len(mark)]
    if name and name not in PROSE:
        return None
    closes = bool(fences) and fences[-1].end() == len(text) and not fences[-1][2]
    inner = fences[:-1] if closes else fences
    if len(inner) % 2 or (inner and not (name or inner[0][2])) or not (closes or name):
        return None
    body = text[first.end() : fences[-1].start() if closes else None].strip("\n")
    return (body, f"a code fence ({mark}{first[2]})") if body.strip() else None


def _quoted(text: str) -> tuple[str, str] | None:
    """The inside of quotation marks whose opening one is closed at the very end, and nowhere before."""
    opened, closed = text[0], QUOTES[text[0]]
    inside = text[1:-1]
    if not text.endswith(closed) or len(inside.split()) < SPEECH:
        return None
    if opened == closed:
        place = inside.find(opened)
        if place >= 0 and (place == len(inside) - 1 or not _opens(inside, place) or inside.count(opened) % 2):
            return None
    else:
        depth = 1
        for mark in re.findall(f"[{opened}{closed}]", inside):
            depth += 1 if mark == opened else -1
            if depth != 1 and mark == closed and depth < 1:
                return None
        if depth != 1:
            return None
    return inside.strip(), f"quotation marks ({opened}{closed})"


def _opens(text: str, place: int) -> bool:
    """A straight mark after a blank inside a line opens a quotation; at a paragraph's beginning it goes on with one."""
    before = text[:place]
    return bool(OPENER.search(before)) and not before.endswith("\n") and not text[place + 1].isspace()
