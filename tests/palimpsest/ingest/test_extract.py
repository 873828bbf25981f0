from __future__ import annotations

import random
import re
import time
import unicodedata

import ftfy
import pytest
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad

from palimpsest.ingest import extract


@pytest.mark.parametrize(
    ("encoded", "declared", "expected"),
    [
        ("utf-8", "iso-8859-1", "utf-8"),
        ("cp1252", "utf-8", None),
        ("utf-8", "", "utf-8"),
        ("utf-16", "utf-8", "utf-16-le"),
        ("cp1251", "windows-1251", "cp1251"),
    ],
)
def test_the_bytes_decide_when_the_declared_charset_is_wrong(encoded, declared, expected):
    words = "Привет из Москвы, " * 20 if encoded == "cp1251" else "Der Käse und die Größe der Straße, déjà vu. " * 20
    page = f"<html><body><main><p>{words}</p></main></body></html>".encode(encoded)
    found = extract.extract(page, declared)
    assert found.text.split() == words.split()
    assert expected is None or found.charset == expected


def test_mojibake_is_undone_and_said_so():
    sound = "The Naturalist’s Café: 15 °C on the Cape — a “naïve” guess"
    repaired, broken_lines = extract.repair(sound.encode().decode("latin-1"))
    assert (repaired, broken_lines) == (sound, 1)


def test_a_page_about_mojibake_is_left_alone():
    text = "Where é should stand you see Ã©, and where ’ should stand you see â€™.\n\nA café — plain.\n\nÜber uns."
    assert extract.repair(text) == (text, 0)


def test_control_characters_go_and_letters_are_composed():
    assert extract.repair("a\x00b\x07 cafe\u0301") == ("ab café", 0)


def test_lines_that_need_no_tidying_stand_as_they_are_beside_those_that_do():
    assert extract.repair("a\r\nb\rc\x07\n\n\n\ncafe\u0301 \nplain") == ("a\nb\nc\n\ncafé\nplain", 0)


LINES = [
    "The Naturalist’s Café: 15 °C on the Cape — a “naïve” guess", "plain", "", "Übergröße", "a\x07b", "c\u2028d",
    "e\rf", "cafe\u0301", "\ud800 half", "\x1b[36mblue\x1b[0m", "ça va", "Â 5", "œ", "日本語", "\ufefffirst",
    "A\u0303 ", "\x85",
]  # fmt: skip


def test_what_is_not_looked_at_is_what_ftfy_would_leave_alone():
    def by_ftfy(text: str) -> tuple[str, int]:
        raw = text.split("\n")
        tidy, mended = ([ftfy.fix_text(line, config) for line in raw] for config in (extract.TIDY, extract.REPAIR))
        broken = sum(a != b for a, b in zip(tidy, mended, strict=True))
        repaired = broken > 0 and 2 * broken >= sum(not line.isascii() for line in raw)
        lines = "\n".join(mended if repaired else tidy).split("\n")
        kept = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines))
        return kept.strip("\n"), broken if repaired else 0

    dice = random.Random(3)
    for _ in range(400):
        lines = dice.choices(LINES, k=dice.randint(1, 8))
        if dice.random() < 0.5:
            lines = [line.encode(errors="replace").decode("cp1252", "replace") for line in lines]
        assert extract.repair("\n".join(lines)) == by_ftfy("\n".join(lines)), lines


def test_no_mojibake_hides_from_the_first_look():
    known = "".join(MOJIBAKE_CATEGORIES.values())
    beyond = [c for c in set(known) - set("ŒœÂÃ") if ord(c) > 127 and not unicodedata.category(c).startswith("C")]
    dice = random.Random(4)
    for _ in range(20_000):
        line = "".join(
            dice.choice(["", " ", "a", ". ", "Z", "?"]) + dice.choice(beyond) + dice.choice(" aZ1!") for _ in "xyz"
        )
        assert not extract.MAYBE_BROKEN.search(line)
        assert not is_bad(line), line


def test_table_rows_keep_their_cells_and_code_its_indentation():
    page = (
        b"<main><p>A table follows here, and some code after it.</p><table><tr><th>Star</th><th>Magnitude</th></tr>"
        b"<tr><td>Vega</td><td>0.0</td></tr></table><pre>if a:\n    b()</pre></main>"
    )
    lines = extract.table_cells(extract.extract(page, "").text).split("\n")
    assert "Star | Magnitude" in lines
    assert "Vega | 0.0" in lines
    assert "    b()" in lines


def test_depth_is_estimated_without_parsing():
    assert extract.depth_at_most(b"<div>" * 100_000, 2_000) == 100_000
    flat = b"<ul>" + b"<li>item<p>text<br>" * 5_000 + b"</ul>"
    assert extract.depth_at_most(flat, 2_000) == 1
    assert (
        extract.depth_at_most(b"</div>" * 50 + b"<DIV><trx>" * 40 + b"</section>" * 30 + b"<a><BR/>" * 60, 100) == 110
    )
    began = time.process_time()
    extract.depth_at_most(b"<a" * 1_000_000, 2_000)
    assert time.process_time() - began < 5


def test_no_page_too_deep_passes_the_first_look():
    dice = random.Random(5)
    tags = [b"<div>", b"<SPAN ", b"<x-y>", b"</div>", b"</SPAN>", b"<br>", b"</p>", b"<LI>", b"<", b"</", b"<!--", b"t"]
    for _ in range(2_000):
        page = b"".join(dice.choices(tags, k=dice.randint(0, 20)))
        depth, limit = extract.depth_at_most(page, 0), dice.randint(0, 9)
        found = extract.depth_at_most(page, limit)
        assert found == depth if depth > limit else found <= limit, (page, limit)


@pytest.mark.parametrize(
    ("payload", "binary"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, True),
        (bytes(range(256)) * 20, True),
        (b"%PDF-1.7 " + b"\x00\x01" * 100, True),
        ("<p>Größe</p>".encode("cp1252"), False),
        ("<p>Größe</p>".encode("utf-16"), False),
        (b"<html><body>hello</body></html>", False),
    ],
)
def test_binary_payloads_are_recognised(payload, binary):
    assert extract.is_binary(payload) is binary
