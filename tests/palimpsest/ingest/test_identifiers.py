"""Account numbers, cards, national numbers and secrets become placeholders; numbers that look like them stay."""

from __future__ import annotations

import json
import time

import pyarrow.parquet as pq
import pytest

from palimpsest.ingest import checksums
from palimpsest.ingest.identifiers import KINDS, NATIONAL, redact
from palimpsest.ingest.pages import examine

# Put together here, so that no scanner takes this file for a leak.
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
JWT = ".".join(
    ["eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"]
)
BEGIN, END = (f"-----{word} RSA " + "PRIVATE KEY-----" for word in ("BEGIN", "END"))
LINE = "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0\n"
KEY = f"{BEGIN}\n{LINE * 3}{END}"
LOCKED = f"{BEGIN}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B2C\n\n{LINE * 2}qLk=\n{END}"
SHA = "3f2a" * 10
PERSONS = {
    "IT codice fiscale": "RSSMRA85T10A562S",
    "FR NIR": "2 55 08 14 168 025 38",
    "ES NIE": "X1234567L",
    "ES DNI": "DNI 12345678Z",
    "BE rijksregisternummer": "85.07.30-033.28",
    "BR CPF": "390.533.447-05",
    "CL RUT": "12.531.909-2",
    "CN resident id": "11010519491231002X",
    "FI henkilötunnus": "131052-308T",
    "SE personnummer": "personnummer 811228-9874",
    "NO fødselsnummer": "151086 95088",
    "PL PESEL": "PESEL 44051401359",
    "NL BSN": "BSN: 111222333",
    "DE Steuer-ID": "Steuer-ID 36 574 261 809",
    "GB NHS number": "NHS number 943 476 5870",
    "CA SIN": "SIN 123-456-782",
    "IN Aadhaar": "Aadhaar 2341 2341 2346",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PO42 IBAN GB29 NWBK 6016 1331 9268 19 it is", "PO42 IBAN <IBAN> it is"),
        ("Pay to GB29 NWBK 6016 1331 9268 19 AND WAIT.", "Pay to <IBAN> AND WAIT."),
        ("IBAN:DE89370400440532013000, then", "IBAN:<IBAN>, then"),
        ("cards 4111 1111 1111 1111 and 3782-822463-10005", "cards <CARD> and <CARD>"),
        ("my Visa: 4012888888881881.", "my Visa: <CARD>."),
        (f"key {AWS}, token {GITHUB};", "key <SECRET>, token <SECRET>;"),
        (f"Authorization: Bearer {JWT}", "Authorization: Bearer <SECRET>"),
        (f"The key:\n\n{KEY}\n\nKeep it.", "The key:\n\n<SECRET>\n\nKeep it."),
        (f"{KEY[:120]}", "<SECRET>"),
        (f"{BEGIN}\n{LINE * 3}\nKeep it in a safe place.\nThanks\n", "<SECRET>\n\nKeep it in a safe place.\nThanks\n"),
        (LOCKED, "<SECRET>"),
        (f"In one line: {' '.join(LOCKED.split())} and more", "In one line: <SECRET> and more"),
        (json.dumps({"key": KEY}), '{"key": "<SECRET>"}'),
        (
            "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYzzzzzzzzKE",
            "aws_secret_access_key = <SECRET>",
        ),
        ("postgres://ada:" + "Tr0ub4dor&3@db.internal/x", "postgres://<SECRET>@db.internal/x"),
    ],
)
def test_numbers_and_secrets_become_placeholders(text, expected):
    once, counts = redact(text, KINDS)
    assert once == expected
    assert sum(counts.values()) == expected.count("<")
    assert redact(once, KINDS) == (once, dict.fromkeys(KINDS, 0))


@pytest.mark.parametrize("name", NATIONAL)
def test_every_national_number_is_found_and_is_not_with_a_wrong_check(name):
    found, counts = redact(f"It is {PERSONS[name]}, they said.", ["national_id"])
    assert found.endswith("<NATIONAL_ID>, they said.")
    assert counts == {"national_id": 1}
    number = PERSONS[name]
    last = number[-1]
    others = [c for c in ("0123456789" if last.isdigit() else "ABCDEFGHJKLMNPSTUVWXYZ") if c != last]
    wrong = [
        other
        for other in others
        if redact(f"It is {number[:-1]}{other}, they said.", ["national_id"])[1]["national_id"]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "GB28 NWBK 6016 1331 9268 19 has a wrong check, DE893704004405320130 a wrong length.",
        "4111 1111 1111 1112 fails Luhn; 1234 5678 9012 3452 is no issuer's; the tracking number 4111111111111111",
        "https://shop.example/item/4111111111111111?id=4012888888881881",
        "ISBN 978-0-306-40615-7, 44051401359 items, 943 476 5870 of them, 111222333 and 123-456-782",
        "on 2026-10-01 at 12:30:45, 1914-1918, 3.141592653589793, 100 200 3000",
        f"{BEGIN} begins a key file and {END} ends it.",
        f"A file that begins with {BEGIN} is a key.\n\nIt has been so since commit {SHA}, and will be.",
        f"{BEGIN}\nNote: since commit\n{SHA}",
        "Llegaron sin 123-456-782 ni 44051401359; trwa to 12 dni 12345678Z, and discover 4111111111111111 in cc",
        "case 811228-9874 was closed; uid 2341 2341 2346",
        "sk-learn, ghp_short, AKIA and eyJhbGciOi are how they begin; http://user:" + "password@example.com",
        "0000 0000 0000 0000 and 000.000.000-00 were typed, not issued",
    ],
)
def test_what_only_looks_like_one_stays(text):
    assert redact(text, KINDS) == (text, dict.fromkeys(KINDS, 0))


def test_only_what_is_asked_for_is_looked_for():
    text = f"GB29 NWBK 6016 1331 9268 19, {AWS}"
    assert redact(text, []) == (text, {})
    assert redact(text, ["secret"]) == ("GB29 NWBK 6016 1331 9268 19, <SECRET>", {"secret": 1})


def test_every_country_of_the_iban_registry_has_its_check():
    for country, length in checksums.IBAN_LENGTH.items():
        rest = "7" * (length - 4)
        check = 98 - int("".join(str(int(c, 36)) for c in f"{rest}{country}00")) % 97
        assert redact(f"to {country}{check:02}{rest}.", ["iban"])[0] == "to <IBAN>."


def test_a_page_counts_each_kind_and_an_account_number_is_no_telephone_number():
    page = b"<main><p>Pay GB82 WEST 1234 5698 7654 32 or call +44 1632 960571; card 4111 1111 1111 1111.</p></main>"
    row = examine(page, "utf-8", 5, personal=["iban", "card"])
    assert row["text"] == "Pay <IBAN> or call <PHONE>; card <CARD>."
    assert (row["pii_iban"], row["pii_card"], row["pii_phone"]) == (1, 1, 1)
    assert "pii_secret" not in row
    assert "4111 1111" in examine(page, "utf-8", 5)["text"]


def test_almost_nothing_is_taken_from_real_text(shared):
    """No account, no card and no national number in encyclopedia, news and manuals: any that is found is a mistake."""
    file = shared / "data" / "text" / "web_short.parquet"
    if not file.exists():
        pytest.skip("no texts in the shared data")
    found = [redact(text, KINDS)[1] for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]
    assert sum(sum(counts.values()) for counts in found) == 0


@pytest.mark.parametrize(
    "unit",
    ["1", "1 ", "1234-", "A1", "eyJ", "eyJaaaaaaaaaaa.", BEGIN, "a://b:c", "GB29 ", "ghp_", BEGIN + LINE],
)
def test_time_is_linear_in_the_text(unit):
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    redact(text, KINDS)
    assert time.process_time() - began < 2
