from __future__ import annotations

import time

import pytest

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
    began = time.process_time()
    extract.depth_at_most(b"<a" * 1_000_000, 2_000)
    assert time.process_time() - began < 5


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
