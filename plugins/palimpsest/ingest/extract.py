"""Main text of an HTML page: charset, tree, main content, repair."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

import ftfy
from resiliparse.parse.encoding import detect_encoding, detect_mime, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from palimpsest.ingest import profiles

META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements that HTML closes by itself: leaving them open does not nest.
UNNESTED = frozenset(
    b"area base br col embed hr img input link meta param source track wbr html head body p li dt dd tr td th thead "
    b"tbody tfoot option optgroup colgroup rt rp".split()
)
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
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
    repaired: bool
    extractor: str = ""
    words: dict[str, int] = field(default_factory=dict)
    """Of each candidate text that was made of the page, before repair."""


def is_binary(payload: bytes) -> bool:
    """Whether the bytes are no text in any charset (images, archives, programs)."""
    if payload.startswith(tuple(bom for bom, _ in BOMS)):
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


def find_charset(payload: bytes, declared: str) -> str:
    """The charset the bytes are in, whatever the headers say: they are wrong on a few percent of the web."""
    for bom, name in BOMS:
        if payload.startswith(bom):
            return name
    if not payload.isascii() and _decodes(payload, "utf-8"):
        return "utf-8"
    meta = META.search(payload[:4096])
    for label in (declared, meta[1].decode() if meta else ""):
        known = map_encoding_to_html5(label, fallback_utf8=False) if label else None
        if known and _decodes(payload, known):
            return known
    return detect_encoding(payload) or "windows-1252"


def extract(payload: bytes, declared_charset: str, profile: profiles.Profile = "resiliparse") -> Extracted:
    charset = find_charset(payload, declared_charset)
    page = payload.decode(_python_name(charset), errors="replace")
    tree = HTMLTree.parse(page)
    if profile == "resiliparse":
        found = profiles.Chosen(profiles.main_text(tree), profile)
    else:
        found = profiles.choose(profiles.Candidates(page, tree), profile)
    text, repaired = repair(found.text)
    title, _ = repair(" ".join((tree.title or "").split()))
    return Extracted(text, title, charset, repaired, found.extractor, found.words)


def plain(payload: bytes, charset: str, title: str) -> Extracted:
    """A text that was extracted elsewhere, repaired like one of ours."""
    text, repaired = repair(payload.decode(charset))
    return Extracted(text, repair(title)[0], charset, repaired)


def repair(text: str) -> tuple[str, bool]:
    """The text with mojibake undone and control characters removed, and whether there was mojibake."""
    lines = ftfy.fix_text(text, TIDY).split("\n")
    suspect = [line for line in text.split("\n") if not line.isascii()]
    fixed = [ftfy.fix_text(line, REPAIR) for line in suspect]
    broken = sum(after != ftfy.fix_text(line, TIDY) for line, after in zip(suspect, fixed, strict=True))
    repaired = bool(suspect) and broken >= MIN_BROKEN_LINES * len(suspect)
    if repaired:
        lines = [ftfy.fix_text(line, REPAIR) for line in text.split("\n")]
    kept = "\n".join(line.rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", kept).strip("\n"), repaired


def table_cells(text: str) -> str:
    """Tabs between the cells of a row as ' | '."""
    return "\n".join(
        " | ".join(cell.strip() for cell in re.split(r"\t+", line)) if "\t" in line else line
        for line in text.split("\n")
    )


def _decodes(payload: bytes, charset: str) -> bool:
    try:
        payload.decode(_python_name(charset))
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def _python_name(charset: str) -> str:
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return "cp1252"
