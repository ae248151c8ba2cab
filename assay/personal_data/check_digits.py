"""Numbers that prove themselves: payment cards, IBANs and national numbers, by their check digits and their form.

Each function takes what was written and says whether it is one; spaces and hyphens have been taken out. The arithmetic
is that of python-stdnum; the forms of cards and IBANs are ours, as they have to be found in running text.
"""

import csv
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from stdnum import luhn
from stdnum.br import cpf
from stdnum.ch import ssn as ahv
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import nif
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.iso7064 import mod_97_10
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.th import pin
from stdnum.us import ssn

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
_CHINESE = re.compile(
    "(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91)[0-9]{4}"
    "(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9X]"
)
RARE_CARD_DIGITS = (12, 13, 17, 18, 19)
"""Lengths that few cards have, but barcodes, time stamps and tracking numbers do."""

with Path(__file__).with_name("bban_forms.csv").open(newline="") as _lines:
    _BBAN = {line["country"]: line["form"] for line in csv.DictReader(_lines)}
"""What follows the check digits of an IBAN, by country: n digits, a letters, c either (SWIFT, release 101)."""
IBAN_COUNTRIES = tuple(_BBAN)
_BBAN_CLASSES = {"n": "[0-9]", "a": "[A-Za-z]", "c": "[0-9A-Za-z]"}
_GAP = "[ \u00a0\u202f.-]?"


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


def is_codice_fiscale(characters: str) -> bool:
    """Whether the last letter of an Italian tax code is right."""
    upper = characters.upper()
    # `is_valid` asks for a true date of birth as well: a misspelt one is no less personal.
    return len(upper) == 16 and codicefiscale.calc_check_digit(upper[:15]) == upper[15]


def is_chinese_number(characters: str) -> bool:
    """Whether province, month, day and check digit of a Chinese identity number (GB 11643) are right.

    Not `ric.is_valid` of python-stdnum 2.2: of a county that it does not know, it raises `KeyError`.
    """
    return _CHINESE.fullmatch(characters) is not None and ric.calc_check_digit(characters) == characters[-1]


NATIONAL_CHECKS: dict[str, Callable[[str], bool]] = {
    "us": ssn.is_valid,
    "us_bare": ssn.is_valid,
    "gb": lambda characters: True,
    "fr": nir.is_valid,  # also 2A and 2B, Corsica's departments
    "es": nif.is_valid,
    "it": is_codice_fiscale,
    "de": idnr.is_valid,
    "ind": aadhaar.is_valid,
    "ch": ahv.is_valid,
    "br": lambda digits: len(set(digits)) > 1 and cpf.is_valid(digits),
    "cn": is_chinese_number,
    "kr": rrn.is_valid,
    "th": pin.is_valid,
    "se": personnummer.is_valid,
    "nl": bsn.is_valid,
    "pl": pesel.is_valid,
}
"""Whether a national number is one, by the name of its form in `pii_rules`."""
