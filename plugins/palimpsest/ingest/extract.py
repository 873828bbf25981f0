"""Main text of an HTML page: charset, tree, main content, repair."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import ftfy
from resiliparse.parse.encoding import detect_mime
from resiliparse.parse.html import HTMLTree

from palimpsest.ingest import charset, profiles

TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements that HTML closes by itself: leaving them open does not nest.
UNNESTED = frozenset(
    b"area base br col embed hr img input link meta param source track wbr html head body p li dt dd tr td th thead "
    b"tbody tfoot option optgroup colgroup rt rp".split()
)
TIDY = ftfy.TextFixerConfig(
    fix_encoding=False,
    unescape_html=False,
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    normalization="NFC",
)
# Only text that decodes as a whole: a page that quotes mojibake among sound letters is left as it is.
REPAIR = TIDY._replace(fix_encoding=True, decode_inconsistent_utf8=False)
MIN_BROKEN_LINES = 0.5  # share of the lines with non-ASCII letters that must be mojibake before a page is repaired


@dataclass(frozen=True)
class Extracted:
    """Cells of a table row are parted by a tab, blocks by a blank line."""

    text: str
    title: str
    charset: str
    charset_from: str
    """As `charset.Found.by`; 'source': the text came decoded."""
    mojibake: int
    """Lines on which it was undone."""
    extractor: str = ""
    words: dict[str, int] = field(default_factory=dict)
    """Of each candidate text that was made of the page, before repair."""


def is_binary(payload: bytes) -> bool:
    """Whether the bytes are no text in any charset (images, archives, programs)."""
    if payload.startswith(tuple(bom for bom, _ in charset.BOMS)) or charset.is_utf16(payload):
        return False
    kind = detect_mime(payload[:4096])
    if kind.startswith("text/") or "xml" in kind or "json" in kind:
        return False
    return kind != "application/octet-stream" or b"\0" in payload[:4096]


def depth_at_most(payload: bytes, limit: int) -> int:
    """Nesting of the page, estimated from its tags without parsing (a deep tree costs quadratic time to read out)."""
    if payload.count(b"<") <= limit:
        return 0
    depth = deepest = 0
    for match in TAG.finditer(payload):
        if match[2].lower() in UNNESTED:
            continue
        depth = max(depth - 1, 0) if match[1] else depth + 1
        deepest = max(deepest, depth)
    return deepest


def extract(payload: bytes, declared_charset: str, profile: profiles.Profile = "resiliparse") -> Extracted:
    encoded = charset.find(payload, declared_charset)
    page = charset.decode(payload, encoded.name)
    tree = HTMLTree.parse(page)
    if profile == "resiliparse":
        found = profiles.Chosen(profiles.main_text(tree), profile)
    else:
        found = profiles.choose(profiles.Candidates(page, tree), profile)
    text, mojibake = repair(found.text)
    title, _ = repair(" ".join((tree.title or "").split()))
    return Extracted(text, title, *encoded, mojibake, found.extractor, found.words)


def plain(payload: bytes, declared_charset: str, title: str) -> Extracted:
    """A text that was extracted elsewhere, repaired like one of ours."""
    text, mojibake = repair(payload.decode(declared_charset))
    return Extracted(text, repair(title)[0], declared_charset, "source", mojibake)


def repair(text: str) -> tuple[str, int]:
    """The text with mojibake undone and control characters removed, and on how many lines there was mojibake to undo.

    A text is repaired as a whole or not at all: 0 where fewer than half of the lines that could be broken are.
    """
    lines = ftfy.fix_text(text, TIDY).split("\n")
    raw = text.split("\n")
    suspect = Counter(line for line in raw if not line.isascii())  # a line that comes again is looked at once
    fixed = {line: ftfy.fix_text(line, REPAIR) for line in suspect}
    broken = sum(times for line, times in suspect.items() if fixed[line] != ftfy.fix_text(line, TIDY))
    repaired = broken > 0 and broken >= MIN_BROKEN_LINES * suspect.total()
    if repaired:
        lines = [fixed[line] if line in fixed else ftfy.fix_text(line, REPAIR) for line in raw]
    kept = "\n".join(line.rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", kept).strip("\n"), broken if repaired else 0


def table_cells(text: str) -> str:
    """Tabs between the cells of a row as ' | '."""
    return "\n".join(
        " | ".join(cell.strip() for cell in re.split(r"\t+", line)) if "\t" in line else line
        for line in text.split("\n")
    )
