"""Which charset a page is in: what it says of itself, unless its bytes say otherwise.

Headers and meta tags are wrong on a few percent of the web. A wrong multi-byte charset fails to decode; a wrong
single-byte one decodes everything, into words that no language has. Labels mean what browsers take them for (WHATWG
Encoding Standard, section 4.2): iso-8859-1 is windows-1252, shift_jis has the characters of Windows.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
XML = re.compile(rb"""^\s{0,100}<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]{2,40})""")
FALLBACK = "windows-1252"  # the commonest after UTF-8
HEAD = 4_096  # bytes in which a page says what it is in
LOOK = 131_072  # bytes by which a declaration is judged, as many as the detector reads
# Browsers read these with more characters than the standards of their names have; Python does not.
WIDER = {"shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs"}
UTF16 = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}  # how a page in UTF-16 without a mark begins
MAX_BAD_UTF8 = 0.05  # invalid bytes per sound multi-byte character: a page cut off or stitched together is still UTF-8
# Of the characters beyond ASCII in words: the share in impossible words at which the declaration is doubted, and what
# part of that share may be left in what the detector says instead.
MIN_IMPOSSIBLE, MAX_LEFT = 0.05, 0.2
MIN_CHARACTERS = 10  # in impossible words, or it is a name or a formula

WORD = re.compile(r"[^\W\d_][^\s<>&;=\"'/()|,.:!?_0-9-]*")  # a letter and what sticks to it
LATIN = re.compile(r"[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]")
OTHER_SCRIPT = re.compile(r"[\u0370-\u058f]")  # Greek, Cyrillic, Armenian: alphabets that do not mix with Latin letters
ODD_CASE = re.compile(r"[\u0430-\u044f\u03b1-\u03c9][\u0410-\u042f\u0391-\u03a9]")  # aB in Cyrillic or Greek
SYMBOL = re.compile(
    r"[^\W\d_][\u0080-\u009f\u00a1-\u00a9\u00ab\u00ac\u00ae-\u00b3\u00b6\u00b8\u00b9\u00bb-\u00bf\u00d7\u00f7\u2122]"
    r"+[^\W\d_]"
)  # a symbol between two letters


class Found(NamedTuple):
    name: str
    by: str
    """'bom', 'bytes' (they are valid in it and could not be by chance), 'header', 'meta', 'detector' or 'default'."""


def find(payload: bytes, declared: str) -> Found:
    """The charset the bytes are in; ``declared`` is that of the HTTP header, '' if it names none."""
    for bom, name in BOMS:
        if payload.startswith(bom):
            return Found(name, "bom")
    if name := _by_bytes(payload):
        return Found(name, "bytes")
    guess = _detected(payload)
    for label, by in ((declared, "header"), (_meta(payload), "meta")):
        name = map_encoding_to_html5(label, fallback_utf8=False) if label else None
        if not name or (name.startswith("utf-16") and b"\0" not in payload[:HEAD]) or not _decodes(payload, name):
            continue
        better = None if payload.isascii() else _better(payload, name, (guess, FALLBACK))
        return Found(better, "detector") if better else Found(name, by)
    return Found(guess, "detector") if guess else Found(FALLBACK, "default")


def read(payload: bytes, declared: str) -> tuple[str, Found]:
    """The text, and the charset it was read in: what `decode` makes of what `find` says."""
    if not payload.isascii() and payload[:2] not in UTF16 and not payload.startswith(codecs.BOM_UTF8):
        try:  # most pages are valid UTF-8, which shows by decoding them
            return payload.decode(), Found("utf-8", "bytes")
        except UnicodeDecodeError:
            pass
    found = find(payload, declared)
    return decode(payload, found.name), found


def is_utf16(payload: bytes) -> bool:
    """Whether a page begins as one in UTF-16 does that has no byte order mark: it is text in spite of its zeros."""
    return payload[:2] in UTF16


def decode(payload: bytes, name: str) -> str:
    """The text, which a byte order mark is no part of (text before the first tag would open the page's body, and its
    title would be read as a line of it); bytes that are none in this charset become U+FFFD.
    """
    return payload.decode(_codec(name), errors="replace").lstrip("\ufeff")


def _by_bytes(payload: bytes) -> str:
    if name := UTF16.get(payload[:2]):
        return name
    if payload.isascii():
        # The escapes of ISO-2022-JP are control characters, which no page holds otherwise.
        return "iso2022_jp" if b"\x1b$" in payload and _decodes(payload, "iso2022_jp") else ""
    if _decodes(payload, "utf-8"):
        return "utf-8"
    text = payload.decode(errors="replace")
    bad = text.count("\ufffd") - payload.count("\ufffd".encode())
    sound = len(text) - bad - len(payload.translate(None, bytes(range(128, 256))))
    return "utf-8" if bad <= MAX_BAD_UTF8 * sound else ""


def _detected(payload: bytes) -> str | None:
    found = detect_encoding(payload)
    if found == "utf-8" and detect_encoding(payload, html5_compatible=False) == "cp949":
        return "euc_kr"  # Korean as Windows writes it, which has no name among the browsers' labels
    return found


def _meta(payload: bytes) -> str:
    found = META.search(payload[:HEAD]) or XML.search(payload[:HEAD])
    return found[1].decode() if found else ""


def _better(payload: bytes, name: str, others: Iterable[str | None]) -> str | None:
    """The first of the others in which the words are sound, if they are impossible in the charset ``name``."""
    count, share = _impossible(payload, name)
    if count < MIN_CHARACTERS or share < MIN_IMPOSSIBLE:
        return None
    for other in others:
        if other and _decodes(payload, other) and _impossible(payload, other)[1] <= MAX_LEFT * share:
            return other
    return None


def _impossible(payload: bytes, name: str) -> tuple[int, float]:
    """Characters beyond ASCII in words that no language has, and their share of those in all words."""
    words = Counter(word for word in WORD.findall(decode(payload[:LOOK], name)) if not word.isascii())
    beyond = {word: times * sum(not letter.isascii() for letter in word) for word, times in words.items()}
    impossible = sum(count for word, count in beyond.items() if _is_impossible(word))
    return impossible, impossible / max(sum(beyond.values()), 1)


def _is_impossible(word: str) -> bool:
    if SYMBOL.search(word) or ODD_CASE.search(word):
        return True
    latin = LATIN.findall(word)
    if latin and OTHER_SCRIPT.search(word):
        return True
    return len(latin) >= 4 and sum(not letter.isascii() for letter in latin) > 0.75 * len(latin)


def _decodes(payload: bytes, name: str) -> bool:
    try:
        payload.decode(_codec(name))
    except UnicodeDecodeError:
        return False
    return True


def _codec(name: str) -> str:
    try:
        known = codecs.lookup(name).name
    except LookupError:
        return "cp1252"
    return WIDER.get(known, known)
