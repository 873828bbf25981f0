"""Main text of an HTML page: charset, tree, main content, repair."""

from __future__ import annotations

import io
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

import ftfy
import numpy as np
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS
from resiliparse.parse.encoding import detect_mime
from resiliparse.parse.html import HTMLTree

from palimpsest.ingest import charset, profiles

# Elements that HTML closes by itself: leaving them open does not nest.
UNNESTED = (
    "area base br col embed hr img input link meta param source track wbr html head body p li dt dd tr td th thead "
    "tbody tfoot option optgroup colgroup rt rp"
)
TAG = re.compile(rf"<(/?)(?!(?:{'|'.join(UNNESTED.split())})(?![a-z0-9]))[a-z]".encode())
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
# All mojibake that ftfy knows has two characters beyond ASCII in a row, or one of these. Most texts have neither, which
# is seen ten times as fast as by its own pattern; the first character stands before the choice, or it takes four times
# as long.
MAYBE_BROKEN = re.compile("[\\x80-\\U0010ffff](?:(?<=[ŒœÂÃ])|[\\x80-\\U0010ffff])")
# What TIDY changes besides the normal form.
UNTIDY = re.compile(f"[{re.escape(''.join(map(chr, CONTROL_CHARS)))}\\x80-\\x9f\\r\u2028\u2029\\ud800-\\udfff]")
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


def with_ascii_tags(payload: bytes, declared_charset: str) -> bytes:
    """The page, in UTF-8 if it was in UTF-16: the tags of all other charsets are written as those of ASCII."""
    if b"\0" not in payload[: charset.HEAD] and not payload.startswith(charset.UTF16_BOMS):
        return payload
    return charset.read(payload, declared_charset)[0].encode(errors="replace")


def depth_at_most(payload: bytes, limit: int) -> int:
    """Nesting of the page, estimated from its tags without parsing (a deep tree costs quadratic time to read out); 0
    where too few elements are opened to nest deeper than ``limit``.
    """
    page = np.frombuffer(payload, np.uint8)
    if np.count_nonzero((page[:-1] == ord("<")) & (page[1:] >= ord("A"))) <= limit:
        return 0
    steps = 1 - 2 * np.fromiter(map(len, TAG.findall(payload.lower())), dtype=np.int64)
    level = np.cumsum(steps)
    return int((level - np.minimum.accumulate(np.minimum(level, 0))).max(initial=0))


def extract(payload: bytes, declared_charset: str, profile: profiles.Profile = "resiliparse") -> Extracted:
    page, encoded = charset.read(payload, declared_charset)
    tree = HTMLTree.parse(page)
    if profile == "resiliparse":
        found = profiles.Chosen(profiles.main_text(tree), profile)
    else:
        found = profiles.choose(profiles.Candidates(page, tree), profile)
    text, mojibake = repair(found.text)
    title, _ = repair(" ".join((tree.title or "").split()))
    return Extracted(text, title, *encoded, mojibake, found.extractor, found.words)


def plain(payload: bytes, declared_charset: str, title: str) -> Extracted:
    """A text that was extracted elsewhere, repaired like one of ours; bytes that are none of it become U+FFFD."""
    text, mojibake = repair(payload.decode(declared_charset, errors="replace"))
    return Extracted(text, repair(title)[0], declared_charset, "source", mojibake)


def repair(text: str) -> tuple[str, int]:
    """The text with mojibake undone and control characters removed, and on how many lines there was mojibake to undo.

    A text is repaired as a whole or not at all: 0 where fewer than half of the lines that could be broken are.
    """
    lines, mojibake = text.split("\n"), 0
    tidy = _is_tidy(text)
    if not tidy or MAYBE_BROKEN.search(text):
        suspect = Counter(line for line in lines if not line.isascii())  # a line that comes again is looked at once
        odd = (line for line in suspect if _is_suspect(line) or not (tidy or _is_tidy(line)))
        fixed = {line: ftfy.fix_text(line, REPAIR) for line in odd}
        broken = sum(suspect[line] for line, better in fixed.items() if better != _tidied(line))
        if broken >= MIN_BROKEN_LINES * suspect.total():
            mojibake = broken
    if mojibake:
        lines = [fixed[line] if line in fixed else _tidied(line) for line in lines]
    elif not tidy:
        lines = _tidied(text).split("\n")
    kept = "\n".join(map(str.rstrip, lines))
    return re.sub(r"\n\n\n+", "\n\n", kept).strip("\n"), mojibake


def _tidied(text: str) -> str:
    """Line by line, as ftfy itself goes: it takes long, and few lines need it."""
    if _is_tidy(text):
        return text
    return "".join(line if _is_tidy(line) else ftfy.fix_text(line, TIDY) for line in io.StringIO(text))


def _is_suspect(line: str) -> bool:
    return bool(MAYBE_BROKEN.search(line) and is_bad(line))


def _is_tidy(text: str) -> bool:
    """Whether TIDY would change nothing: ftfy looks for that a line at a time, at the cost of the whole extraction."""
    return not UNTIDY.search(text) and unicodedata.is_normalized("NFC", text)


def table_cells(text: str) -> str:
    """Tabs between the cells of a row as ' | '."""
    return "\n".join(
        " | ".join(cell.strip() for cell in re.split(r"\t+", line)) if "\t" in line else line
        for line in text.split("\n")
    )
