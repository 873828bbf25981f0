"""Account numbers, cards, national numbers and secrets in a text: found by their form, held to their check digits.

The kinds of personal data beyond `pii`, which a corpus asks for by name (``cleaning.personal``). A number is taken only
if nothing but such a number is likely to look like it: by its separators and check digits, or, where these leave too
much to chance, by its name standing before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from palimpsest.ingest import checksums, credentials

Kind = Literal["iban", "card", "national_id", "secret"]
KINDS: tuple[Kind, ...] = ("secret", "iban", "card", "national_id")
"""In the order in which they are looked for: what one has taken is no other's."""
NEAR = 40  # characters before a number in which its name must stand
GAP = "[ \u00a0\u202f-]"
# What every card and every national number holds, and most texts do not.
NUMERIC = re.compile(r"\d[\d .+\u00a0-]{5,}\d|[A-Z]{6}[0-9LMNP-V]{2}[A-Z]")
# Looked at from every place: what stands before an account number can have the form of one.
IBAN = re.compile(rf"(?<![A-Za-z0-9])(?=([A-Z]{{2}}\d{{2}}(?:{GAP}?[A-Z0-9]){{11,29}}))")
CARD = re.compile(
    r"""(?<![\w.,/=&?+-])(?:
      \d{4}([ \u00a0-])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?
    | \d{4}([ \u00a0-])\d{6}\2\d{4,5}                   # American Express, Diners Club
    | \d{14,16}
    )(?![\w-]|[.,/]\d)""",
    re.VERBOSE,
)
CARD_NAMES = re.compile(
    r"\b(?:cards?|visa|master ?card|amex|american express|diners|jcb|(?-i:Discover|DISCOVER|CC))\b", re.IGNORECASE
)


class National(NamedTuple):
    form: str
    issued: Callable[[str], bool]
    names: str = ""
    """What must stand before it; '': its form and check are enough. In (?-i:...) what is a word if written small."""


NATIONAL = {
    "IT codice fiscale": National(
        r"[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", checksums.italy
    ),
    "FR NIR": National(r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-4]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", checksums.france),
    "ES NIE": National(r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", checksums.spain),
    "ES DNI": National(r"\d{8}[ -]?[A-HJ-NP-TV-Z]", checksums.spain, r"(?-i:DNI|NIF)|documento nacional"),
    "BE rijksregisternummer": National(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", checksums.belgium),
    "BR CPF": National(r"\d{3}\.\d{3}\.\d{3}-\d\d", checksums.brazil),
    "CL RUT": National(r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]", checksums.chile),
    "CN resident id": National(r"[1-8]\d{5}(?:19|20)\d{9}[\dXx]", checksums.china),
    "FI henkilötunnus": National(r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", checksums.finland),
    "SE personnummer": National(
        r"(?:19|20)?\d{6}[-+]\d{4}", checksums.sweden, r"person(?:nummer|-?nr)|samordningsnummer|personal identity"
    ),
    "NO fødselsnummer": National(r"\d{6} ?\d{5}", checksums.norway),
    "PL PESEL": National(r"\d{11}", checksums.poland, "PESEL"),
    "NL BSN": National(r"\d{9}", checksums.netherlands, r"BSN|burgerservicenummer|sofi-?nummer"),
    "DE Steuer-ID": National(
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        checksums.germany,
        r"Steuer-?ID|Id-?Nr|Steuer-?Identifikationsnummer|Steuernummer",
    ),
    "GB NHS number": National(r"\d{3}[ -]?\d{3}[ -]?\d{4}", checksums.health_service, r"NHS"),
    "CA SIN": National(r"\d{3}[ -]?\d{3}[ -]?\d{3}", checksums.luhn, r"(?-i:SIN)|social insurance"),
    "IN Aadhaar": National(r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", checksums.india, r"Aadhaar|Aadhar|(?-i:UID)|UIDAI"),
}
_FORMS = {name: re.compile(rf"(?<![\w.,/=&?+-])(?:{kind.form})(?![\w-]|[.,/]\d)") for name, kind in NATIONAL.items()}
_NAMES = {name: re.compile(rf"\b(?:{kind.names})\b", re.IGNORECASE) for name, kind in NATIONAL.items() if kind.names}


def redact(text: str, kinds: Sequence[Kind]) -> tuple[str, dict[Kind, int]]:
    """The text with <IBAN>, <CARD>, <NATIONAL_ID> and <SECRET> in place, and how many of each kind asked for."""
    counts = dict.fromkeys(kinds, 0)
    for kind in KINDS:
        if kind not in counts:
            continue
        pieces, end = [], 0
        for start, stop in FINDERS[kind](text):
            if start >= end:
                pieces += [text[end:start], f"<{kind.upper()}>"]
                counts[kind] += 1
                end = stop
        text = "".join([*pieces, text[end:]])
    return text, counts


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in IBAN.finditer(text):
        places = [n for n, letter in enumerate(match[1]) if letter.isalnum()]
        length = checksums.IBAN_LENGTH.get(match[1][:2], 99)
        if len(places) < length:
            continue
        end = match.start() + places[length - 1] + 1
        if not text[end : end + 1].isalnum() and checksums.iban(_plain(text[match.start() : end])):
            yield match.start(), end


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    for match in CARD.finditer(text) if NUMERIC.search(text) else ():
        if checksums.card(_plain(match[0])) and (not match[0].isdigit() or _is_named(CARD_NAMES, match)):
            yield match.span()


def find_national(text: str) -> Iterator[tuple[int, int]]:
    found = []
    for name, form in _FORMS.items() if NUMERIC.search(text) else ():
        names = _NAMES.get(name)
        if names and not names.search(text):
            continue
        for match in form.finditer(text):
            plain = match[0] if name.startswith("FI") else _plain(match[0])
            if NATIONAL[name].issued(plain) and (not names or _is_named(names, match)):
                found.append(match.span())
    yield from sorted(found)


FINDERS: dict[Kind, Callable[[str], Iterator[tuple[int, int]]]] = {
    "secret": credentials.find,
    "iban": find_ibans,
    "card": find_cards,
    "national_id": find_national,
}


def _plain(number: str) -> str:
    return "".join(filter(str.isalnum, number))


def _is_named(names: re.Pattern[str], match: re.Match[str]) -> bool:
    return names.search(match.string, max(0, match.start() - NEAR), match.start()) is not None
