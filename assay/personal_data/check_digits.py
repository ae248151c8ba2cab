"""Numbers that prove themselves: payment cards, IBANs and national numbers, by their check digits and their form.

Each function takes what was written and says whether it is one; spaces and hyphens have been taken out.
"""

import re
import string
from functools import cache

_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
"""Twice a digit, and of that the sum of its digits."""

_ISSUERS = re.compile(
    r"""(?x)
      4 (?: [0-9]{12} | [0-9]{15} | [0-9]{18} )  # Visa
    | (?: 5[1-5][0-9]{2} | 222[1-9] | 22[3-9][0-9] | 2[3-6][0-9]{2} | 27[01][0-9] | 2720 ) [0-9]{12}  # Mastercard
    | 3[47][0-9]{13}  # American Express
    | (?: 30[0-5] | 309 | 36[0-9] | 3[89][0-9] ) [0-9]{11}  # Diners Club
    | (?: 6011 | 64[4-9][0-9] | 65[0-9]{2} ) (?: [0-9]{12} | [0-9]{15} )  # Discover
    | (?: 2131 | 1800 ) [0-9]{11} | 35[0-9]{14}  # JCB
    | (?: 62[0-9]{2} | 81[0-7][0-9] ) [0-9]{12,15}  # UnionPay
    | (?: 60[0-9]{2} | 65[0-9]{2} | 8[12][0-9]{2} | 508[0-9] ) [0-9]{12}  # RuPay
    | (?: 5018 | 5020 | 5038 | 5[678][0-9]{2} | 6304 | 6390 | 67[0-9]{2} | 0604 ) [0-9]{8,15}  # Maestro
    | 220[0-4][0-9]{12,15}  # Mir
    """
)
_RARE_CARD_DIGITS = (12, 13, 17, 18, 19)

_BBAN_TABLE = """
    AD:8n12c AE:19n AL:8n16c AO:21n AT:16n AX:14n AZ:4a20c BA:16n BE:12n BF:2c22n BG:4a6n8c BH:4a14c BI:23n BJ:2c22n
    BL:10n11c2n BR:23n1a1c BY:4c4n16c CF:23n CG:23n CH:5n12c CI:2a22n CM:23n CR:18n CV:21n CY:8n16c CZ:20n DE:18n
    DJ:23n DK:14n DO:4c20n DZ:22n EE:16n EG:25n ES:20n FI:14n FK:2a12n FO:14n FR:10n11c2n GA:23n GB:4a14n GE:2a16n
    GF:10n11c2n GG:4a14n GI:4a15c GL:14n GP:10n11c2n GQ:23n GR:7n16c GT:24c GW:2c19n HN:4a20n HR:17n HU:24n IE:4a14n
    IL:19n IM:4a14n IQ:4a15n IR:22n IS:22n IT:1a10n12c JE:4a14n JO:4a4n18c KM:23n KW:4a22c KZ:3n13c LB:4n20c
    LC:4a24c LI:5n12c LT:16n LU:3n13c LV:4a13c LY:21n MA:24n MC:10n11c2n MD:20c ME:18n MF:10n11c2n MG:23n MK:3n10c2n
    ML:2c22n MN:16n MQ:10n11c2n MR:23n MT:4a5n18c MU:4a19n3a MZ:21n NC:10n11c2n NE:2a22n NI:4a20n NL:4a10n NO:11n
    OM:3n16c PF:10n11c2n PK:4a16c PL:24n PM:10n11c2n PS:4a21c PT:21n QA:4a21c RE:10n11c2n RO:4a16c RS:18n RU:14n15c
    SA:2n18c SC:4a20n3a SD:14n SE:20n SI:15n SK:20n SM:1a10n12c SN:2a22n SO:19n ST:21n SV:4a20n TD:23n TF:10n11c2n
    TG:2a22n TL:19n TN:20n TR:6n16c UA:6n19c VA:18n VG:4a16n WF:10n11c2n XK:16n YE:4a4n18c YT:10n11c2n
"""
"""What follows the check digits of an IBAN, by country: n digits, a letters, c either (SWIFT, release 101)."""
_BBAN = dict(entry.split(":") for entry in _BBAN_TABLE.split())
IBAN_COUNTRIES = tuple(_BBAN)
_BBAN_CLASSES = {"n": "[0-9]", "a": "[A-Za-z]", "c": "[0-9A-Za-z]"}
_GAP = "[ \u00a0\u202f-]?"

_VERHOEFF_PERMUTED = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_CODICE_ODD_LETTERS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_CODICE_ODD = dict(zip(string.ascii_uppercase, _CODICE_ODD_LETTERS, strict=True)) | dict(
    zip(string.digits, _CODICE_ODD_LETTERS, strict=False)
)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812)."""
    codes = digits.encode()
    return (sum(codes[-1::-2]) + sum(codes[-2::-2].translate(_DOUBLED)) - ord("0") * len(codes)) % 10 == 0


def is_card(digits: str) -> bool:
    """Whether it has the first digits and the length of a payment card's issuer, and the right check digit."""
    return luhn(digits) and _ISSUERS.fullmatch(digits) is not None and len(set(digits)) > 1


def is_rare_card_length(digits: str) -> bool:
    """Whether few cards are this long, but barcodes, time stamps and tracking numbers are."""
    return len(digits) in _RARE_CARD_DIGITS


@cache
def iban_pattern(country: str) -> re.Pattern[str] | None:
    """What an IBAN of a country looks like, with or without gaps; None where there are none."""
    if country not in _BBAN:
        return None
    parts = re.findall("([0-9]+)([nac])", _BBAN[country])
    body = "".join(f"(?:{_GAP}{_BBAN_CLASSES[kind]}){{{count}}}" for count, kind in parts)
    return re.compile(f"[A-Za-z]{{2}}{_GAP}[0-9]{{2}}{body}(?![0-9A-Za-z])")


def is_iban(characters: str) -> bool:
    """Whether its check digits are right (ISO 13616, modulo 97)."""
    return int("".join(str(int(one, 36)) for one in characters[4:] + characters[:4])) % 97 == 1


def is_social_security_number(digits: str) -> bool:
    """Whether the United States could have given this number: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def is_nir(characters: str) -> bool:
    """Whether the key of a French social-security number is right; Corsica's departments are 2A and 2B."""
    body = characters[:13].upper().replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(characters[13:])


def is_dni(characters: str) -> bool:
    """Whether the letter of a Spanish identity number (DNI, or NIE with its X, Y or Z) is right."""
    number = characters[:-1].upper().translate(str.maketrans("XYZ", "012"))
    return _DNI_LETTERS[int(number) % 23] == characters[-1].upper()


def is_codice_fiscale(characters: str) -> bool:
    """Whether the last letter of an Italian tax code is right."""
    upper = characters.upper()
    odd = sum(_CODICE_ODD[one] for one in upper[0:15:2])
    even = sum(int(one) if one.isdigit() else ord(one) - ord("A") for one in upper[1:15:2])
    return (odd + even) % 26 == ord(upper[15]) - ord("A")


def is_german_tax_number(digits: str) -> bool:
    """Whether it is a German tax identification number.

    Of the first ten digits, one comes two or three times, the others once; the last is a check digit (ISO/IEC 7064).
    """
    counts = sorted(map(digits[:10].count, set(digits[:10])))
    if digits[0] == "0" or counts[-1] not in (2, 3) or counts[:-1] != [1] * (10 - counts[-1]):
        return False
    product = 10
    for digit in map(int, digits[:10]):
        product = 2 * ((digit + product) % 10 or 10) % 11
    return (11 - product) % 10 == int(digits[10])


def is_aadhaar(digits: str) -> bool:
    """Whether the check digit of an Indian identity number is right (Verhoeff)."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = _dihedral(check, int(_VERHOEFF_PERMUTED[place % 8][int(digit)]))
    return check == 0 and digits != digits[::-1]


def is_ahv(digits: str) -> bool:
    """Whether the check digit of a Swiss social-security number is right (EAN-13)."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return total % 10 == 0


def is_cpf(digits: str) -> bool:
    """Whether both check digits of a Brazilian taxpayer number are right."""
    return len(set(digits)) > 1 and all(
        sum(int(digit) * weight for digit, weight in zip(digits, range(end + 1, 1, -1), strict=False)) * 10 % 11 % 10
        == int(digits[end])
        for end in (9, 10)
    )


def _dihedral(one: int, other: int) -> int:
    """The product of two elements of the symmetries of a pentagon, 0 to 4 rotations, 5 to 9 reflections."""
    if one < 5:
        return (one + other) % 5 if other < 5 else 5 + (one + other) % 5
    return 5 + (one - other) % 5 if other < 5 else (one - other) % 5
