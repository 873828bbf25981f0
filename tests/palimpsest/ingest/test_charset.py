"""Pages are read in the charset their bytes are in, whatever header and meta tag say."""

from __future__ import annotations

import codecs
import time

import pytest

from palimpsest.ingest import charset
from palimpsest.ingest.extract import extract, is_binary

TEXTS = {
    "ru": "Старый маяк стоит на самом краю мыса, и каждый вечер смотритель поднимается по лестнице.",
    "el": "Ο παλιός φάρος στέκεται στην άκρη του ακρωτηρίου και κάθε βράδυ ο φύλακας ανεβαίνει τη σκάλα για το φως.",
    "pl": "Stara latarnia stoi na końcu przylądka, a każdego wieczoru latarnik wchodzi po schodach, żeby zapalić "
    "światło dla rybaków.",
    "de": "Der alte Leuchtturm steht über dem Kap, und jeden Abend steigt der Wärter die große Treppe hinauf, um Öl "
    "für die Lampe nachzufüllen; später kühlt die Wärme ab.",
    "ja": "古い灯台は岬の端に立っていて、毎晩、灯台守がランプに火をともすために階段を上ります。海は静かでした。①",
    "zh": "古老的灯塔矗立在海角的尽头，每天晚上看守人都会爬上楼梯点亮灯。大海非常平静，船只都回到了港口。",
    "ko": "오래된 등대가 곶의 끝에 서 있고, 매일 저녁 등대지기가 등불을 켜기 위해 계단을 올라갑니다.",
}
PLAIN = "The old lighthouse stands at the end of the cape, and every evening the keeper climbs the stairs. "


def page(text: str, encoding: str, head: str = "") -> bytes:
    return f"<html><head>{head}</head><body><main><p>{text * 4}</p></main></body></html>".encode(encoding)


@pytest.mark.parametrize(
    ("language", "encoding", "wrong"),
    [
        ("ru", "cp1251", "iso-8859-1"),
        ("ru", "koi8-r", "windows-1251"),
        ("ru", "koi8-r", "iso-8859-1"),
        ("ru", "cp1251", "iso-8859-2"),
        ("el", "iso-8859-7", "iso-8859-1"),
        ("el", "cp1253", "windows-1251"),
        ("pl", "iso-8859-2", "iso-8859-1"),
        ("pl", "cp1250", "iso-8859-1"),
        ("de", "cp1252", "windows-1251"),
        ("de", "cp1252", "utf-8"),
        ("de", "cp1252", "utf-16"),
        ("ja", "cp932", "iso-8859-1"),
        ("ja", "cp932", "utf-8"),
        ("zh", "gb18030", "iso-8859-1"),
        ("zh", "gb18030", "windows-1251"),
        ("ko", "euc-kr", "iso-8859-1"),
    ],
)
def test_a_wrong_declaration_is_overruled_and_the_right_one_is_believed(language, encoding, wrong):
    payload = page(TEXTS[language], encoding)
    for declared in (wrong, encoding):
        found = charset.find(payload, declared)
        assert TEXTS[language] in charset.decode(payload, found.name), (declared, found)
    in_meta = page(TEXTS[language], encoding, f'<meta http-equiv="Content-Type" content="text/html; charset={wrong}">')
    assert TEXTS[language] in charset.decode(in_meta, charset.find(in_meta, "").name)


@pytest.mark.parametrize(
    ("payload", "declared", "found"),
    [
        (b"\xef\xbb\xbf" + page(TEXTS["ru"], "utf-8"), "windows-1251", ("utf-8", "bom")),
        (page(TEXTS["ru"], "utf-8"), "windows-1251", ("utf-8", "bytes")),
        (page(TEXTS["de"], "utf-16-le"), "utf-8", ("utf-16-le", "bytes")),
        (page(TEXTS["ja"].rstrip("①"), "iso2022_jp"), "", ("iso2022_jp", "bytes")),
        (page(TEXTS["ru"], "cp1251"), "windows-1251", ("cp1251", "header")),
        (page(TEXTS["ru"], "cp1251", '<meta charset="windows-1251">'), "", ("cp1251", "meta")),
        (b'<?xml version="1.0" encoding="windows-1251"?>' + page("Да. ", "cp1251"), "", ("cp1251", "meta")),
        (page(TEXTS["ru"], "cp1251"), "", ("cp1251", "detector")),
        (page(PLAIN, "ascii"), "iso-8859-1", ("cp1252", "header")),
        (page(PLAIN, "ascii"), "utf-16", ("cp1252", "detector")),
        (page(PLAIN, "ascii"), "no-such-charset", ("cp1252", "detector")),
    ],
)
def test_it_is_said_what_the_charset_was_known_by(payload, declared, found):
    assert charset.find(payload, declared) == found
    assert charset.read(payload, declared) == (charset.decode(payload, found[0]), found)


def test_one_broken_byte_does_not_turn_a_utf8_page_into_another_charset():
    sound = page(TEXTS["de"], "utf-8")
    for broken in (sound + "é".encode()[:1], sound.replace(b"</p>", b"\xfc</p>")):
        found = charset.find(broken, "")
        assert found == ("utf-8", "bytes")
        assert charset.decode(broken, found.name).count("\ufffd") == 1
        assert TEXTS["de"] in extract(broken, "iso-8859-1").text


def test_a_few_odd_words_do_not_overrule_a_right_declaration():
    text = "Façade, naïve and Ωmega; 15°C at 3½ km. Curaçao’s “São Tomé”: the Ørsted–Sørensen law, Łódź, a£b. " * 3
    for encoding in ("cp1252", "iso-8859-2"):
        payload = page(text.encode(encoding, "ignore").decode(encoding), encoding)
        assert charset.find(payload, encoding).by == "header"


def test_a_page_in_utf16_without_a_mark_is_no_binary():
    payload = page(TEXTS["ru"], "utf-16-be")
    assert not is_binary(payload)
    assert extract(payload, "").text.startswith(TEXTS["ru"][:20])


@pytest.mark.parametrize("profile", ["resiliparse", "fast", "best"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF8 * 2, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_page(mark, encoding, profile):
    payload = page(TEXTS["de"], encoding, "<title>Vom Kap</title>")
    found, without = extract(mark + payload, "", profile), extract(payload, "", profile)
    assert (found.title, found.text) == (without.title, without.text)
    assert found.title == "Vom Kap"
    assert "Vom Kap" not in found.text
    assert (found.charset, found.charset_from) == (encoding, "bom")


@pytest.mark.parametrize("unit", ["Ã©Â€Â™ ", "\x80", "â€", "Ïðèâåò", "a¿"])
def test_time_is_linear_in_the_page(unit):
    payload = page(unit * 10_000, "utf-8" if "€" in unit else "latin-1")
    began = time.process_time()
    extract(payload, "windows-1251")
    assert time.process_time() - began < 3
