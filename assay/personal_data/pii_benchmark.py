"""Score redaction: plant personal data whose place is known in real texts, and see what is found.

The values are Faker's, of several locales, in the spellings that people use, and not made from the patterns that
look for them. Beside them stand decoys: numbers and names that look like personal data and are none. Every value and
every decoy stands in a text of its own, at a random place between two words.

- Recall: the share of planted values that are gone as a whole, covered by one placeholder of their own kind.
- Precision: the share of a kind's placeholders, in all texts, that stand where a value of that kind was planted.

Both carry Wilson's 95% interval.
"""

import itertools
import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from assay.core.placeholders import PLACEHOLDER
from assay.statistics.intervals import wilson_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics

if TYPE_CHECKING:
    from faker import Faker

T = TypeVar("T")
Fakers = dict[str, "Faker"]
"""A generator of values for each locale."""
PHONE_LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "en_IN")
IBAN_LOCALES = ("en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL")
LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "en_IN", "es_ES", "it_IT", "nl_NL", "pt_BR", "de_CH")
PROVIDERS = (
    *("bank", "barcode", "company", "credit_card", "internet", "isbn"),
    *("lorem", "misc", "person", "phone_number", "ssn"),
)
CARD_TYPES = (
    *("visa16", "mastercard", "amex", "visa16", "mastercard", "discover"),
    *("jcb16", "diners", "maestro", "visa13", "visa19"),
)
DECOY = "decoy"

LEADS = {
    "email": ("", "mail me at ", "e-mail: ", "mailto:", "from ", "Contact "),
    "url": ("", "see ", "link: ", "at "),
    "url_credentials": ("", "clone ", "DATABASE_URL=", "log in at "),
    "iban": ("", "IBAN ", "IBAN: ", "please refund to ", "account "),
    "card": ("", "card ", "my card is ", "Visa: ", "pay with ", "cc="),
    "national_number": ("", "my number is ", "ID ", "SSN: "),
    "ip": ("", "from ", "IP: ", "host=", "ping "),
    "phone": ("", "call ", "call me at ", "Tel: ", "phone=", "my number is ", "WhatsApp ", "oder "),
}
AROUND = (
    *(("", ""), ("", ""), ("", "."), ("", ","), ("(", ")")),
    *(('"', '"'), ("<", ">"), ("'", "'"), ("", "!"), ("[", "]")),
)


@dataclass(frozen=True)
class Planted:
    """Texts with one value or decoy in each, its kind (`DECOY` if it is none), and where it is, in characters."""

    texts: pl.Series
    kinds: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def plant(texts: pl.Series, rows_per_kind: int, seed: int) -> Planted:
    """Plant values of every kind, and as many decoys as values of one kind, in texts without placeholders.

    The texts are drawn with replacement.
    """
    draws = np.random.default_rng(seed)
    fakers = _fakers(seed)
    makers = _makers(fakers, draws)
    hosts = texts.filter(~texts.str.contains(PLACEHOLDER)).to_list() or [""]
    planted, kinds, starts, ends = [], [], [], []
    for kind, make in makers.items():
        for number in range(rows_per_kind):
            value = make(number)
            lead = "" if kind == DECOY else _one_of(LEADS[kind], draws)
            opening, closing = ("", "") if kind == DECOY else _one_of(AROUND, draws)
            words = hosts[draws.integers(len(hosts))].split(" ")
            place = int(draws.integers(len(words) + 1))
            before = "".join(f"{word} " for word in words[:place]) + lead + opening
            planted.append("".join([before, value, closing, *(f" {word}" for word in words[place:])]))
            kinds.append(kind)
            starts.append(len(before))
            ends.append(len(before) + len(value))
    return Planted(pl.Series("text", planted, dtype=pl.String), tuple(kinds), tuple(starts), tuple(ends))


def score(planted: Planted, redact: Callable[[pl.Series], pl.Series]) -> dict[str, dict[str, float]]:
    """`planted`, `recall` and `precision` by kind, each share with its 95% interval."""
    kinds = [kind for kind in dict.fromkeys(planted.kinds) if kind != DECOY]
    found, right, placeholders = (dict.fromkeys(kinds, 0) for _ in range(3))
    rows = zip(planted.texts, redact(planted.texts), planted.kinds, planted.starts, planted.ends, strict=True)
    for before, after, kind, start, end in rows:
        spans = _replaced_spans(before, after)
        for placeholder, first, last in spans:
            if placeholder in placeholders:
                placeholders[placeholder] += 1
                right[placeholder] += placeholder == kind and first < end and start < last
        if kind != DECOY:
            found[kind] += any(name == kind and first <= start and end <= last for name, first, last in spans)
    return {
        kind: {"planted": planted.kinds.count(kind)}
        | _share("recall", found[kind], planted.kinds.count(kind))
        | _share("precision", right[kind], placeholders[kind])
        for kind in kinds
    }


def _share(name: str, hits: int, trials: int) -> dict[str, float]:
    """A share with its interval, which is from 0 to 1 where there were no trials."""
    return interval_metrics(name, wilson_estimate(hits, trials) if trials else Estimate(0.0, 0.0, 1.0))


def _replaced_spans(before: str, after: str) -> list[tuple[str, int, int]]:
    """Kind, start and end in `before` of what the new placeholders of `after` stand for."""
    kept, names = re.split(PLACEHOLDER, after), re.findall(PLACEHOLDER, after)
    match = re.fullmatch("(.+?)".join(map(re.escape, kept)), before, re.DOTALL)
    if match is None:
        return []
    return [
        (re.sub("_?[0-9]*>|<", "", name).lower(), *match.span(group))
        for group, name in enumerate(names, start=1)
        if not re.fullmatch(PLACEHOLDER, match[group])
    ]


def _fakers(seed: int) -> dict[str, "Faker"]:
    """A generator of values for each locale, with its own seed."""
    from faker import Faker  # half a second to import

    fakers = {locale: Faker(locale, providers=[f"faker.providers.{name}" for name in PROVIDERS]) for locale in LOCALES}
    for number, faker in enumerate(fakers.values()):
        faker.seed_instance(seed + number)
    return fakers


def _makers(fakers: Fakers, draws: np.random.Generator) -> dict[str, Callable[[int], str]]:
    """For each kind, from the number of a value to the value; the number goes around locales and spellings."""
    makers = (_email, _url, _url_credentials, _iban, _card, _national_number, _ip, _phone, _decoy)
    return {make.__name__.removeprefix("_"): partial(make, fakers, draws) for make in makers}


def _locale(fakers: Fakers, number: int, names: Sequence[str] = LOCALES) -> "Faker":
    return fakers[names[number % len(names)]]


def _email(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    faker = _locale(fakers, number)
    value = _one_of((faker.email, faker.company_email, faker.ascii_free_email), draws)()
    name, _, domain = value.partition("@")
    tagged = f"{name}+{fakers['en_US'].word()}@{domain}"
    return _one_of((value, value, value.upper(), tagged, f"{name}@mail.{domain}"), draws)


def _url(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    faker = _locale(fakers, number)
    values = (faker.url(), faker.uri(), f"www.{faker.domain_name()}", f"{faker.url()}{fakers['en_US'].uri_path()}?q=1")
    return _one_of(values, draws)


def _url_credentials(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    us = fakers["en_US"]
    scheme = _one_of(("https", "ftp", "postgresql", "redis", "mongodb+srv", "amqp"), draws)
    password = us.password(length=10, special_chars=bool(number % 2)).translate(str.maketrans("@/#?&<>\"'", "_" * 9))
    return f"{scheme}://{us.user_name()}:{password}@{us.domain_name()}/{us.uri_path()}"


def _iban(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    value = _locale(fakers, number, IBAN_LOCALES).iban()
    spaced, dashed = _in_groups(value, " "), _in_groups(value, "-")
    return _one_of((value, value, spaced, spaced, dashed, value.lower()), draws)


def _card(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    value = fakers["en_US"].credit_card_number(CARD_TYPES[number % len(CARD_TYPES)])
    return _one_of((value, _card_in_groups(value, " "), _card_in_groups(value, "-")), draws)


def _national_number(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    # Not Faker's Indian and British ones: those have a wrong check digit, these a prefix that is never given.
    french = str(fakers["fr_FR"].ssn())
    makers = (
        fakers["en_US"].ssn,
        lambda: _with_seed(fakers["es_ES"].nif, int(draws.integers(2**32))),
        lambda: _with_seed(fakers["es_ES"].nie, int(draws.integers(2**32))),
        fakers["it_IT"].ssn,
        fakers["pt_BR"].cpf,
        fakers["de_CH"].ssn,
        lambda: french,
        lambda: " ".join(french[start:end] for start, end in itertools.pairwise((0, 1, 3, 5, 7, 10, 13, 15))),
    )
    return str(makers[number % len(makers)]())


def _ip(fakers: Fakers, _: np.random.Generator, number: int) -> str:
    us = fakers["en_US"]
    version_6 = us.ipv6()
    makers = (us.ipv4, us.ipv4_public, us.ipv4_private, lambda: us.ipv4(network=True), us.ipv6, version_6.upper)
    return str(makers[number % len(makers)]())


def _phone(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    value = _locale(fakers, number, PHONE_LOCALES).phone_number()
    return value.replace("-", " ") if draws.random() < 0.1 and "(" not in value else value


def _decoy(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    """What looks like personal data and is none."""
    faker = fakers["en_US"]

    def digits(count: int) -> str:
        return "".join(map(str, draws.integers(0, 10, count)))

    def number_in(low: int, high: int) -> int:
        return int(draws.integers(low, high))

    def wrong_last_digit(value: str) -> str:
        return value[:-1] + str((int(value[-1]) + number_in(1, 10)) % 10)

    def with_wrong_check_digits() -> str:
        value = faker.iban()
        return f"{value[:2]}{(int(value[2:4]) + number_in(1, 97)) % 97:02}{value[4:]}"

    word = "".join(draws.choice(list(string.ascii_uppercase), 2))
    makers: tuple[Callable[[], str], ...] = (
        lambda: f"order {digits(10)}",
        lambda: f"Order no. {digits(9)}",
        lambda: f"invoice #{digits(8)}",
        lambda: f"tracking number {digits(12)}",
        lambda: wrong_last_digit(faker.credit_card_number("visa16")),
        lambda: _card_in_groups(wrong_last_digit(faker.credit_card_number("mastercard")), " "),
        with_wrong_check_digits,
        lambda: f"v{number_in(0, 20)}.{number_in(0, 20)}.{number_in(0, 255)}.{number_in(0, 20)}",
        lambda: f"version {number_in(1, 20)}.{number_in(0, 20)}.{number_in(0, 255)}.{number_in(0, 255)}",
        lambda: f"{number_in(1990, 2030)}-{number_in(1, 13):02}-{number_in(1, 29):02}",
        lambda: f"{number_in(1, 29):02}.{number_in(1, 13):02}.{number_in(1990, 2030)}",
        lambda: (
            f"{number_in(1, 13)}/{number_in(1, 29)}/{number_in(1990, 2030)} {number_in(10, 24)}:{number_in(10, 60)}"
        ),
        lambda: f"{number_in(0, 24):02}:{number_in(0, 60):02}:{number_in(0, 60):02}",
        lambda: f"${number_in(1, 1000)},{digits(3)}.{digits(2)}",
        lambda: f"{number_in(1, 1000)}.{digits(3)},{digits(2)} €",
        lambda: f"{word}-{digits(4)}-{digits(3)}",
        lambda: f"{word}{digits(2)}",
        lambda: str(faker.uuid4()),
        lambda: f"ISBN {faker.isbn10()}",
        lambda: faker.isbn13(),
        lambda: f"EAN {faker.ean13()}",
        lambda: f"{number_in(-90, 90)}.{digits(6)}, {number_in(-180, 180)}.{digits(6)}",
        lambda: f"@{faker.user_name()}",
        lambda: f"{faker.word()}@{faker.word()}",
        lambda: f"{faker.word()}@{number_in(1, 9)}.{number_in(0, 9)}.{number_in(0, 9)}",
        lambda: f"{faker.word()}@2x.png",
        lambda: faker.mac_address(),
        lambda: f"{number_in(256, 999)}.{number_in(1, 255)}.{number_in(1, 255)}.{number_in(1, 255)}",
        lambda: f"{number_in(1990, 2015)}-{number_in(2015, 2030)}",
        lambda: f"{number_in(1, 9)},{digits(3)},{digits(3)}",
        lambda: str(number_in(1_000_000_000, 1_900_000_000)),
        lambda: f"{faker.word()}.{faker.word()}",
    )
    return makers[number % len(makers)]()


def _with_seed(make: Callable[[], str], seed: int) -> str:
    """A value of Faker's Spanish provider, which draws from Python's own generator, not from its seeded one."""
    before = random.getstate()
    random.seed(seed)
    value = make()
    random.setstate(before)
    return value


def _one_of(options: Sequence[T], draws: np.random.Generator) -> T:
    return options[int(draws.integers(len(options)))]


def _in_groups(value: str, gap: str) -> str:
    return gap.join(value[start : start + 4] for start in range(0, len(value), 4))


def _card_in_groups(value: str, gap: str) -> str:
    """As on the card: 4-6-5 digits for American Express, 4-6-4 for Diners Club, otherwise by four."""
    return gap.join((value[:4], value[4:10], value[10:])) if len(value) in (14, 15) else _in_groups(value, gap)
