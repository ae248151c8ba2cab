"""Texts full of numbers that the author of the rules did not write: licences, metadata and file lists of packages that
`requirements.lock` pins, the lock itself, and the numbers that Google's library has as examples of invalid ones.

What is redacted there is right if another parser takes it for such a value, and otherwise a mistake.
"""

import ipaddress
import re
import sysconfig
from collections import Counter
from collections.abc import Callable
from email.headerregistry import Address
from importlib.metadata import files
from pathlib import Path
from urllib.parse import urlsplit

import phonenumbers
import polars as pl
import pytest
from phonenumbers import PhoneNumberFormat

from assay.core.placeholders import PLACEHOLDER
from tests.assay.personal_data.test_pii_rules import ORDER, RULES

PACKAGES = ("numpy", "torch", "scikit-learn", "polars", "pandas", "pydantic", "requests", "playwright", "idna", "dvc")
NAMES = re.compile(r"(?i)licen[cs]e|copying|notice|authors|METADATA|RECORD|lock|package\.json")
MAX_CHARACTERS = 300_000
"""Of each file."""
REGIONS = ("US", "GB", "DE", "FR", "IN", "ES", "BR", "CN", "JP")


def redacted_values(texts: pl.Series) -> list[tuple[str, str]]:
    """Kind and value of what each rule takes out, the others before it having had their turn."""
    found = []
    for kind in ORDER:
        after = texts.to_frame("text").select(RULES[kind](pl.col("text"), numbered=False)).to_series()
        for row in (after != texts).arg_true():
            kept = re.split(f"<{kind.upper()}>", after[row])
            match = re.fullmatch("(.+?)".join(map(re.escape, kept)), texts[row])
            values = match.groups() if match else [texts[row]]
            found += [(kind, value) for value in values if not re.fullmatch(PLACEHOLDER, value)]
        texts = after
    return found


def is_phone(value: str) -> bool:
    numbers = []
    for region in REGIONS:
        try:
            numbers.append(phonenumbers.parse(value, region))
        except phonenumbers.NumberParseException:
            continue
    return any(map(phonenumbers.is_valid_number, numbers))


def parses(function: Callable[[str], object]) -> Callable[[str], bool]:
    def is_one(value: str) -> bool:
        try:
            return bool(function(value))
        except (ValueError, IndexError):
            return False

    return is_one


JUDGES: dict[str, Callable[[str], bool]] = {
    "email": parses(lambda value: Address(addr_spec=value).domain.rpartition(".")[2].isalpha()),
    "url": parses(lambda value: "." in (urlsplit(value if "://" in value else f"//{value}").hostname or "localhost.")),
    "ip": parses(ipaddress.ip_interface),
    "phone": is_phone,
}
"""None for the other kinds: no text here has one."""


def test_precision_on_licences_metadata_and_locks() -> None:
    folder = Path(sysconfig.get_path("purelib"))
    paths = [folder / path for package in PACKAGES for path in files(package) or () if NAMES.search(path.name)]
    paths += [Path("requirements.lock"), Path("LICENSE"), Path("dvc.lock")]
    texts = [path.read_text(encoding="utf-8", errors="replace")[:MAX_CHARACTERS] for path in paths]
    lines = pl.Series("text", [line for text in texts for line in text.splitlines()])
    assert len(lines) > 20_000
    values = redacted_values(lines)
    wrong = [(kind, value) for kind, value in values if not (kind in JUDGES and JUDGES[kind](value))]
    assert Counter(kind for kind, _ in values)["email"] > 50  # there is something to find
    assert len(wrong) <= 0.02 * len(values), wrong
    assert len([kind for kind, _ in wrong if kind not in ("url", "email")]) <= 3, wrong


@pytest.mark.parametrize("lead", ["my size {} fits", "商品{}很好"])
def test_precision_on_invalid_numbers(lead: str) -> None:
    forms = (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL)
    numbers = [phonenumbers.invalid_example_number(region) for region in sorted(phonenumbers.SUPPORTED_REGIONS)]
    texts = [lead.format(phonenumbers.format_number(number, form)) for number in numbers if number for form in forms]
    assert len(texts) > 700
    assert len(redacted_values(pl.Series("text", texts))) <= 0.02 * len(texts)
