from __future__ import annotations

import pytest

from palimpsest.ingest.pii import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jo.doe+x@mail.example-site.co.uk.", "Write to <EMAIL>."),
        ("call (207) 555-0143, 207-555-0143 or +44 1632 960571.", "call <PHONE>, <PHONE> or <PHONE>."),
        ("or 01632 960571, or (020) 7946 0958", "or <PHONE>, or <PHONE>"),
        ("servers 203.0.113.42 and 2001:db8::17", "servers <IP> and <IP>"),
        ("the pool 198.51.100.0/24", "the pool <IP>/24"),
    ],
)
def test_personal_data_becomes_placeholders(text, expected):
    assert redact(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "on 2026-10-01 at 12:30:45, or 01.10.2026, or 10/01/2026",
        "1,234,567 people, 3.14159, 100 200 3000, 1914-1918, 192.5 mm",
        "version 10.2.3.4, v1.2.3.4, section 1.2.3.4 and 1.2.3.4.5",
        "ISBN 978-0-306-40615-7 and 0-306-40615-2, order 20261001123456",
        "std::vector a::b, 300.1.2.3, the handle @name, a+b@ c",
        "the mask 255.255.255.0, the blocks 10.0.0.0/8 and 192.168.1.17, ::1 and 127.0.0.1",
    ],
)
def test_numbers_dates_and_versions_stay(text):
    assert redact(text) == (text, {"email": 0, "phone": 0, "ip": 0})


def test_counts_are_per_kind():
    assert redact("a@b.example c@d.example 203.0.113.9")[1] == {"email": 2, "phone": 0, "ip": 1}


def test_placeholders_are_stable():
    once, _ = redact("mail a@b.example from 203.0.113.9 or +44 1632 960571")
    assert redact(once) == (once, {"email": 0, "phone": 0, "ip": 0})
