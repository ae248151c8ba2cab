"""Numbers that prove themselves: payment cards, IBANs and national numbers, by their check digits and their form.

Each function takes what was written and says whether it is one; spaces and hyphens have been taken out. The arithmetic
is that of python-stdnum; the forms of cards and IBANs are ours, as they have to be found in running text.
"""

import re
from collections.abc import Callable
from functools import cache

from stdnum import luhn
from stdnum.br import cpf
from stdnum.ch import ssn
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.iso7064 import mod_97_10
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.th import pin

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
RARE_CARD_DIGITS = (12, 13, 17, 18, 19)
"""Lengths that few cards have, but barcodes, time stamps and tracking numbers do."""

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


def is_card(digits: str) -> bool:
    """Whether it has the first digits and the length of a payment card's issuer, and the right check digit."""
    return _ISSUERS.fullmatch(digits) is not None and luhn.is_valid(digits) and len(set(digits)) > 1


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
    return mod_97_10.is_valid(characters[4:] + characters[:4])


def is_social_security_number(digits: str) -> bool:
    """Whether the United States could have given this number: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def is_dni(characters: str) -> bool:
    """Whether the letter of a Spanish identity number (DNI, or NIE with its X, Y or Z) is right."""
    return dni.is_valid(characters) or nie.is_valid(characters)


def is_codice_fiscale(characters: str) -> bool:
    """Whether the last letter of an Italian tax code is right."""
    upper = characters.upper()
    # `is_valid` asks for a true date of birth as well: a misspelt one is no less personal.
    return len(upper) == 16 and codicefiscale.calc_check_digit(upper[:15]) == upper[15]


def is_cpf(digits: str) -> bool:
    """Whether both check digits of a Brazilian taxpayer number are right, and its digits are not all the same."""
    return len(set(digits)) > 1 and cpf.is_valid(digits)


NATIONAL_CHECKS: dict[str, Callable[[str], bool]] = {
    "us": is_social_security_number,
    "us_bare": is_social_security_number,
    "gb": lambda characters: True,
    "fr": nir.is_valid,  # also 2A and 2B, Corsica's departments
    "es": is_dni,
    "it": is_codice_fiscale,
    "de": idnr.is_valid,
    "ind": aadhaar.is_valid,
    "ch": ssn.is_valid,
    "br": is_cpf,
    "cn": ric.is_valid,
    "kr": rrn.is_valid,
    "th": pin.is_valid,
    "se": personnummer.is_valid,
    "nl": bsn.is_valid,
    "pl": pesel.is_valid,
}
"""Whether a national number is one, by the name of its form in `pii_rules`."""
