"""Check digits of numbers that lead to a person: each function says whether a number is one that can have been issued.

ISO 13616 (IBAN), ISO/IEC 7812 (cards), and the issuing authority's rule for each national number. ``digits`` hold no
separators.
"""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Sequence

# Characters of an IBAN by country: ISO 13616 registry.
IBAN_LENGTH = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
# First digits of the issuers' ranges, and how long their numbers are. Visa gives out no 13 digits any more.
CARDS = (
    (("4",), (16,)),  # Visa
    (tuple(str(n) for n in (*range(51, 56), *range(2221, 2721))), (16,)),  # Mastercard
    (("34", "37"), (15,)),  # American Express
    (("6011", "65", *(str(n) for n in range(644, 650))), (16,)),  # Discover
    (("36", "38", "39", *(str(n) for n in range(300, 306))), (14,)),  # Diners Club
    (tuple(str(n) for n in range(3528, 3590)), (16,)),  # JCB
    (("62",), (16, 19)),  # UnionPay
)
# Values of the characters at odd places of an Italian codice fiscale (decree of 23 December 1976).
ODD = dict(zip(string.digits + string.ascii_uppercase, (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21,
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
), strict=True))  # fmt: skip
# Verhoeff 1969: multiplication in the dihedral group of order 10, and the permutation of each place.
DIHEDRAL = [
    [(a + b) % 5 if b < 5 else (a + b) % 5 + 5 for b in range(10)]
    if a < 5
    else [(a - b) % 5 + 5 if b < 5 else (a - b) % 5 for b in range(10)]
    for a in range(10)
]
PERMUTED = [list(range(10))]
for _ in range(7):
    PERMUTED.append([PERMUTED[-1][n] for n in (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)])


def luhn(digits: str) -> bool:
    doubled = [2 * int(d) for d in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0


def iban(letters: str) -> bool:
    if IBAN_LENGTH.get(letters[:2]) != len(letters):
        return False
    return int("".join(str(int(c, 36)) for c in letters[4:] + letters[:4])) % 97 == 1


def card(digits: str) -> bool:
    issued = any(len(digits) in lengths and digits.startswith(first) for first, lengths in CARDS)
    return issued and luhn(digits)


def italy(letters: str) -> bool:
    """Codice fiscale: 16 letters and digits, the last a check letter."""
    total = sum(ODD[c] if place % 2 == 0 else int(c, 36) - 10 * c.isalpha() for place, c in enumerate(letters[:15]))
    return letters[15] == string.ascii_uppercase[total % 26]


def france(letters: str) -> bool:
    """Numéro de sécurité sociale (NIR): 13 places and a key of two; Corsica's 2A and 2B count as 19 and 18."""
    number = letters[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(number) % 97 == int(letters[13:])


def spain(letters: str) -> bool:
    """DNI, or NIE with X, Y or Z in front: the letter is the number modulo 23."""
    number = letters[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == letters[-1]


def belgium(digits: str) -> bool:
    """Rijksregisternummer: 97 less the first nine digits modulo 97; from 2000 on with a 2 before them."""
    return int(digits[9:]) in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def brazil(digits: str) -> bool:
    """CPF: two check digits, each modulo 11."""
    for place in (9, 10):
        total = weigh(digits[:place], range(place + 1, 1, -1))
        if int(digits[place]) != (0 if total % 11 < 2 else 11 - total % 11):
            return False
    return len(set(digits)) > 1


def chile(letters: str) -> bool:
    """RUT: modulo 11 with weights 2 to 7 from the right, 10 written K."""
    weights = [2 + place % 6 for place in range(len(letters) - 1)][::-1]
    return "0123456789K0"[11 - weigh(letters[:-1], weights) % 11] == letters[-1].upper()


def china(letters: str) -> bool:
    """Resident identity card (GB 11643): date of birth at 6 to 14, and ISO 7064 modulo 11-2."""
    weights = [2 ** (17 - place) % 11 for place in range(17)]
    return is_date(letters[6:14], "%Y%m%d") and "10X98765432"[weigh(letters[:17], weights) % 11] == letters[17].upper()


def finland(letters: str) -> bool:
    """Henkilötunnus: ddmmyy, a sign of the century, three digits, and the nine digits modulo 31."""
    digits = letters[:6] + letters[7:10]
    return is_date(letters[:6], "%d%m%y") and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == letters[10].upper()


def sweden(digits: str) -> bool:
    """Personnummer: yymmdd and four digits, Luhn."""
    digits = digits[-10:]
    return is_date(digits[:6], "%y%m%d") and luhn(digits)


def norway(digits: str) -> bool:
    """Fødselsnummer: ddmmyy, three digits, and two check digits modulo 11."""
    first, second = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
    return is_date(digits[:6], "%d%m%y") and weigh(digits[:10], first) % 11 == 0 == weigh(digits, second) % 11


def poland(digits: str) -> bool:
    """PESEL: weights 1, 3, 7, 9; the century is in the month."""
    month = int(digits[2:4]) % 20
    return 1 <= month <= 12 and weigh(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def netherlands(digits: str) -> bool:
    """Burgerservicenummer: the eleven test, with weight -1 for the last digit."""
    return weigh(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and int(digits) > 0


def germany(digits: str) -> bool:
    """Steuerliche Identifikationsnummer: ISO 7064 modulo 11,10; one digit of the first ten comes two or three times."""
    times = sorted(digits[:10].count(d) for d in set(digits[:10]))
    if digits[0] == "0" or times[-1] not in (2, 3) or times.count(1) != len(times) - 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def health_service(digits: str) -> bool:
    """NHS number of England and Wales: modulo 11; a check of 10 is never issued."""
    return weigh(digits, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0 and len(set(digits)) > 1


def india(digits: str) -> bool:
    """Aadhaar: Verhoeff's check over twelve digits."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = DIHEDRAL[state][PERMUTED[place % 8][int(digit)]]
    return state == 0


def weigh(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))


def is_date(digits: str, form: str) -> bool:
    try:
        dt.datetime.strptime(digits, form)
    except ValueError:
        return False
    return True
