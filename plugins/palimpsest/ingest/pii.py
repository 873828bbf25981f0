"""Personal data out of a text: e-mail addresses, telephone numbers and IP addresses become fixed placeholders.

Fixed, not numbered: the same text always becomes the same text, and nothing of the value can be read back.
Documentation ranges (RFC 5737, 555-01xx, .example) are redacted like any other; private, loopback and multicast
addresses and netmasks lead to nobody and stay, or no text on networks would survive.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
IPV4 = re.compile(r"(?<![\w.:-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
ANYBODYS = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
        *("::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
]
# What stands before a dotted number that is a version or a section, not an address.
NUMBERING = re.compile(r"(?:\b(?:v|ver|version|release|build|section|chapter|clause|firmware)\.?|§)\s*$", re.IGNORECASE)
PHONE = re.compile(
    r"""(?<![\w.,/:+-])(?:
      \+[1-9]\d{0,2}(?:[\s.-]?\(?\d{1,5}\)?){2,5}         # +44 1632 960571
    | \([2-9]\d{2}\)[\s.-]?[2-9]\d{2}[\s.-]\d{4}          # (207) 555-0143
    | \(0\d{2,4}\)[\s.-]?\d{3,4}[\s.-]?\d{3,4}            # (020) 7946 0958
    | [2-9]\d{2}([.-])[2-9]\d{2}\1\d{4}                   # 207-555-0143: area code and exchange begin with 2 to 9
    | 0\d{2,4}[\s-]\d{3,4}[\s-]?\d{3,4}                   # 01632 960571
    )(?![\w-]|[.,/:]\d)""",
    re.VERBOSE,
)
NUMERIC = re.compile(r"\d[\d\s.()-]{5,}\d")  # what every IPV4 and every PHONE holds; most texts do not
INTERNATIONAL, NATIONAL = (8, 15), (10, 11)  # digits with country code (E.164), with area code


def redact(text: str) -> tuple[str, dict[str, int]]:
    """The text with <EMAIL>, <PHONE> and <IP> in place, and how many of each."""
    counts = {"email": 0, "phone": 0, "ip": 0}

    def replace(kind: str, holds):
        def substitute(match: re.Match[str]) -> str:
            if not holds(match):
                return match[0]
            counts[kind] += 1
            return f"<{kind.upper()}>"

        return substitute

    if "@" in text:
        text = EMAIL.sub(replace("email", lambda match: True), text)
    text = IPV4.sub(replace("ip", _is_address), text)
    if "::" in text or text.count(":") >= 7:
        text = IPV6.sub(replace("ip", _is_address), text)
    text = PHONE.sub(replace("phone", _is_number), text)
    return text, counts


def find(text: str) -> Iterator[tuple[str, str]]:
    """Kind (email, phone, ip) and value of everything `redact` would replace."""
    if "@" in text:
        yield from (("email", match[0]) for match in EMAIL.finditer(text))
    if "::" in text or text.count(":") >= 7:
        yield from (("ip", match[0]) for match in IPV6.finditer(text) if _is_address(match))
    if NUMERIC.search(text):
        yield from (("ip", match[0]) for match in IPV4.finditer(text) if _is_address(match))
        yield from (("phone", match[0]) for match in PHONE.finditer(text) if _is_number(match))


def _is_address(match: re.Match[str]) -> bool:
    if NUMBERING.search(match.string[max(0, match.start() - 12) : match.start()]):
        return False
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return False
    if address.version == 6 and sum(map(bool, match[0].split(":"))) < 3:  # a::b is C++
        return False
    return not any(address.version == network.version and address in network for network in ANYBODYS)


def _is_number(match: re.Match[str]) -> bool:
    fewest, most = INTERNATIONAL if match[0].startswith("+") else NATIONAL
    return fewest <= sum(character.isdigit() for character in match[0]) <= most
