"""Numbers that prove themselves: payment cards, IBANs and national numbers, by their check digits and their form.

Each function takes what was written and says whether it is one; spaces and hyphens have been taken out. The arithmetic
is that of python-stdnum; the forms of cards and IBANs are ours, as they have to be found in running text.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module

from stdnum import luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.iso7064 import mod_97_10
from stdnum.it import codicefiscale

from assay.personal_data.folding import read_rows

_ISSUERS = re.compile("|".join(row["form"] for row in read_rows("card_issuers.csv")), re.VERBOSE)
_CHINESE = re.compile(
    "(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91)[0-9]{4}"
    "(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9X]"
)
RARE_CARD_DIGITS = (12, 13, 17, 18, 19)
"""Lengths that few cards have, but barcodes, time stamps and tracking numbers do."""

_BBAN = {row["country"]: row["form"] for row in read_rows("bban_forms.csv")}
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


def _national_numbers() -> tuple[str, dict[str, Callable[[str], bool]]]:
    """The forms of `national_numbers.csv` as named alternatives of a verbose pattern, and the checks by name."""
    rows = read_rows("national_numbers.csv")
    of_library = {row["name"]: f"stdnum.{row['check']}" for row in rows if row["check"]}
    checks = {name: import_module(module).is_valid for name, module in of_library.items()}
    # Those that python-stdnum has not, or not for every number that people write.
    checks |= {"gb": lambda characters: True, "it": is_codice_fiscale, "cn": is_chinese_number}
    checks["br"] = lambda digits: len(set(digits)) > 1 and cpf.is_valid(digits)
    return " | ".join(f"(?P<{row['name']}> {row['form']} )" for row in rows if row["form"]), checks


NATIONAL_FORMS, NATIONAL_CHECKS = _national_numbers()
"""How national numbers are written, and whether one is one: by country, in the order in which they are tried."""
