"""Score redaction: plant personal data whose place is known in real texts, and see what is found.

The values are Faker's and Google's, and not made from the patterns that look for them. Each value, and each decoy that
looks like one, stands in a text of its own: in Latin script at a random place between two words; in each other script
that the texts have, half of them between two letters, without a space, and some in that script's digits.

- Recall: the share of planted values that are gone as a whole, covered by one placeholder of their own kind, and no
  letter of the text with them; also by script.
- Precision: the share of a kind's placeholders, in all texts, that stand where a value of that kind was planted.
"""

import itertools
import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl
import yaml

from assay.core.placeholders import PLACEHOLDER
from assay.statistics.intervals import wilson_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics

if TYPE_CHECKING:
    from faker import Faker

T = TypeVar("T")
Fakers = dict[str, "Faker"]
"""A generator of values for each locale."""
DECOY = "decoy"
_TABLES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("planted.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Script:
    """Letters of a script, as a class of Rust's, and how its people write.

    Attributes:
        regions: of their phone numbers, in Google's formats; none for Faker's.
        order: what stands before the number of an order, with a space where words have one.
        zero: the first of its own digits, or of the full-width ones.
    """

    letters: str
    regions: list[str]
    order: str
    zero: str = "0"


SCRIPTS = {name: Script(**script) for name, script in _TABLES["scripts"].items()}
_OTHERS = f"[\\p{{L}}--[{''.join(one.letters for one in SCRIPTS.values())}]]"
SCRIPTS |= {"other": Script(_OTHERS, ["IN", "ET", "GE"], "order ")}
MIN_SHARE = 0.005
"""Nothing is planted in a script that fewer of the texts are in."""
OWN_DIGITS = ("email", "iban", "card", "national_number", "ip", "phone")
OWN_DIGITS_SHARE = 0.25

_NO_QUOTES = str.maketrans("@/#?&<>\"'", "_" * 9)

PASSWORD_EVERY = 3
"""So many secrets are keys, but for one."""


@dataclass(frozen=True)
class Planted:
    """Texts with one value or decoy in each, its kind (`DECOY` if it is none), where it is, in characters, and the
    script of the text."""

    texts: pl.Series
    kinds: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    scripts: tuple[str, ...]


def texts_by_script(texts: pl.Series) -> dict[str, list[str]]:
    """The texts without placeholders, by the script that most letters of a text are of; scripts of few texts are not.

    Beside kana, Chinese characters are Japanese.
    """
    counts = texts.to_frame("text").filter(pl.col("text").str.contains(PLACEHOLDER).not_())
    counts = counts.with_columns(
        pl.col("text").str.count_matches(one.letters).alias(name) for name, one in SCRIPTS.items()
    )
    counts = counts.with_columns(kana=pl.when(pl.col("kana") > 0).then(pl.col("kana") + pl.col("han")).otherwise(0))
    most = counts.select(*SCRIPTS).to_numpy().argmax(axis=1)
    found = {name: counts["text"].filter(pl.Series(most == place)).to_list() for place, name in enumerate(SCRIPTS)}
    return {name: hosts for name, hosts in found.items() if len(hosts) > MIN_SHARE * len(counts)} or {"latin": [""]}


def plant(texts: pl.Series, rows_per_kind: int, seed: int) -> Planted:
    """Plant values of every kind, and as many decoys as values of one kind, in texts of every script that there is.

    The texts are drawn with replacement, `rows_per_kind` for each kind and script.
    """
    draws = np.random.default_rng(seed)
    by_script = texts_by_script(texts)
    fakers = _fakers(seed)
    rows = []
    for script, hosts in by_script.items():
        for kind, make in _makers(fakers, draws, SCRIPTS[script]).items():
            for number in range(rows_per_kind):
                host = hosts[draws.integers(len(hosts))]
                rows.append((*_plant_one(host, kind, make(number), number, draws, SCRIPTS[script]), kind, script))
    planted, starts, ends, kinds, scripts = zip(*rows, strict=True)
    return Planted(pl.Series("text", planted, dtype=pl.String), kinds, starts, ends, scripts)


def _plant_one(
    host: str, kind: str, value: str, number: int, draws: np.random.Generator, script: Script
) -> tuple[str, int, int]:
    """A text with a value in it, and where that is; see the docstring of the module."""
    is_password = kind == "secret" and number % PASSWORD_EVERY == 0
    lead = "" if kind == DECOY else _one_of(_TABLES["leads"]["password" if is_password else kind], draws)
    opening, closing = ("", "") if kind == DECOY else _one_of(_TABLES["around"], draws)
    is_latin = script is SCRIPTS["latin"]
    if not is_latin and kind in OWN_DIGITS and draws.random() < OWN_DIGITS_SHARE:
        value = _in_own_digits(value, script.zero)
    places = () if is_latin else [at for at in range(1, len(host)) if _is_letter(host[at - 1]) and _is_letter(host[at])]
    if places and draws.random() < 0.5:
        place = _one_of(places, draws)
        before, after = host[:place] + (lead if is_password else ""), host[place:]
        value = value.rstrip("/")  # a letter after it may be of the path
    else:
        words = host.split(" ")
        place = int(draws.integers(len(words) + 1))
        before = "".join(f"{word} " for word in words[:place]) + lead + opening
        after = "".join([closing, *(f" {word}" for word in words[place:])])
    return before + value + after, len(before), len(before) + len(value)


def _is_letter(character: str) -> bool:
    return character.isalpha() and not character.isascii()


def _in_own_digits(value: str, zero: str) -> str:
    """The digits from another zero on; and all of it in full width, if that is the zero's."""
    signs = "0123456789" if zero != "\uff10" else f"{string.ascii_letters}{string.digits}@.+-()/"
    return value.translate({ord(sign): chr(ord(zero) - ord("0") + ord(sign)) for sign in signs})


def score(planted: Planted, redact: Callable[[pl.Series], pl.Series]) -> dict[str, dict[str, Any]]:
    """`planted`, `recall` and `precision` by kind, each share with its 95% interval, and the recall by script."""
    kinds = [kind for kind in dict.fromkeys(planted.kinds) if kind != DECOY]
    right, placeholders = (dict.fromkeys(kinds, 0) for _ in range(2))
    found: dict[tuple[str, str], list[bool]] = {}
    rows = zip(
        planted.texts, redact(planted.texts), planted.kinds, planted.starts, planted.ends, planted.scripts, strict=True
    )
    for before, after, kind, start, end, script in rows:
        spans = _replaced_spans(before, after)
        for placeholder, first, last in spans:
            if placeholder in placeholders:
                placeholders[placeholder] += 1
                right[placeholder] += placeholder == kind and first < end and start < last
        is_found = any(
            name == kind
            and first <= start
            and end <= last
            and not re.search(r"[^\W\d_]", before[first:start] + before[end:last])
            for name, first, last in spans
        )
        found.setdefault((kind, script), []).append(is_found)
    scores: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        by_script = {script: hits for (of_kind, script), hits in found.items() if of_kind == kind}
        scores[kind] = {
            **_recall([hit for hits in by_script.values() for hit in hits]),
            **_share("precision", right[kind], placeholders[kind]),
            "scripts": {script: _recall(hits) for script, hits in by_script.items()},
        }
    return scores


def _recall(hits: Sequence[bool]) -> dict[str, float]:
    return {"planted": len(hits), **_share("recall", sum(hits), len(hits))}


def _share(name: str, hits: int, trials: int) -> dict[str, float]:
    """A share with its interval, which is from 0 to 1 where there were no trials."""
    return interval_metrics(name, wilson_estimate(hits, trials) if trials else Estimate(0.0, 0.0, 1.0))


def _replaced_spans(before: str, after: str) -> list[tuple[str, int, int]]:
    """Kind, start and end in `before` of what the new placeholders of `after` stand for."""
    kept, names = re.split(PLACEHOLDER, after), re.findall(PLACEHOLDER, after)
    spans: list[tuple[str, int, int]] = []
    at = len(kept[0])
    for name, piece in zip(names, kept[1:], strict=True):
        end = before.find(piece, at + 1) if len(spans) < len(names) - 1 else len(before) - len(piece)
        if end <= at or not before.startswith(piece, end):
            return []
        spans.append((re.sub("_?[0-9]*>|<", "", name).lower(), at, end))
        at = end + len(piece)
    return [span for span in spans if not re.fullmatch(PLACEHOLDER, before[slice(*span[1:])])]


def _fakers(seed: int) -> dict[str, "Faker"]:
    """A generator of values for each locale, with its own seed."""
    from faker import Faker  # half a second to import

    fakers = {locale: Faker(locale) for locale in _TABLES["locales"]["any"]}
    for number, faker in enumerate(fakers.values()):
        faker.seed_instance(seed + number)
    return fakers


def _makers(fakers: Fakers, draws: np.random.Generator, script: Script) -> dict[str, Callable[[int], str]]:
    """For each kind, from the number of a value to the value; the number goes around locales and spellings."""
    makers = (_secret, _email, _url, _url_credentials, _iban, _card, _national_number, _ip)
    made: dict[str, Callable[[int], str]] = {
        make.__name__.removeprefix("_"): partial(make, fakers, draws) for make in makers
    }
    return made | {"phone": partial(_phone, fakers, draws, script), DECOY: partial(_decoy, fakers, draws, script)}


def _locale(fakers: Fakers, number: int, kind: str = "any") -> "Faker":
    names = _TABLES["locales"][kind]
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
    password = us.password(length=10, special_chars=bool(number % 2)).translate(_NO_QUOTES)
    return f"{scheme}://{us.user_name()}:{password}@{us.domain_name()}/{us.uri_path()}"


def _iban(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    value = _locale(fakers, number, "iban").iban()
    spaced, dashed = _in_groups(value, " "), _in_groups(value, "-")
    return _one_of((value, value, spaced, spaced, dashed, value.lower()), draws)


def _card(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    types = _TABLES["card_types"]
    value = fakers["en_US"].credit_card_number(types[number % len(types)])
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


def _phone(fakers: Fakers, draws: np.random.Generator, script: Script, number: int) -> str:
    if script.regions:
        return _phone_of_region(script.regions[number % len(script.regions)], number, draws)
    value = _locale(fakers, number, "phone").phone_number()
    return value.replace("-", " ") if draws.random() < 0.1 and "(" not in value else value


def _phone_of_region(region: str, number: int, draws: np.random.Generator) -> str:
    """Google's example of a mobile or landline number with other last digits, in one of its formats, or its digits."""
    import phonenumbers
    from phonenumbers import PhoneNumberFormat, PhoneNumberType

    kind = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)[number % 2]
    example = phonenumbers.example_number_for_type(region, kind)
    assert example is not None, region
    other = f"{phonenumbers.format_number(example, PhoneNumberFormat.E164)[:-3]}{draws.integers(1000):03}"
    form = _one_of((PhoneNumberFormat.NATIONAL, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.E164), draws)
    value = phonenumbers.format_number(phonenumbers.parse(other), form)
    is_bare = form == PhoneNumberFormat.NATIONAL and draws.random() < 0.5
    return re.sub("[^0-9]", "", value) if is_bare else value


def _secret(fakers: Fakers, draws: np.random.Generator, number: int) -> str:
    """A password, or a key: its issuer's prefix, and letters and digits that nobody was given."""
    word = "".join(draws.choice(list(string.ascii_letters + string.digits), 80))
    if number % PASSWORD_EVERY == 0:
        return fakers["en_US"].password(length=10, special_chars=bool(number % 2)).translate(_NO_QUOTES)
    json = f"eyJ{word[:20]}.eyJ{word[20:60]}.{word[40:]}"
    pem = "\n".join(["-----BEGIN PRIVATE KEY-----", word[:64], word[:40] + "==", "-----END PRIVATE KEY-----"])
    prefixed = {"AKIA": 16, "ghp_": 36, "xoxb-": 24, "sk_live_": 24, "AIza": 35, "sk-proj-": 40, "hf_": 34, "npm_": 36}
    keys = [prefix + word[:length] for prefix, length in prefixed.items()]
    return _one_of([json, pem, keys[0].upper(), *keys[1:]], draws)


def _decoy(fakers: Fakers, draws: np.random.Generator, script: Script, number: int) -> str:
    """What looks like personal data and is none: a form with random digits and letters in it, or a failed check."""
    faker = fakers["en_US"]

    def wrong_last_digit(value: str) -> str:
        return value[:-1] + str((int(value[-1]) + int(draws.integers(1, 10))) % 10)

    def with_wrong_check_digits() -> str:
        value = faker.iban()
        return f"{value[:2]}{(int(value[2:4]) + int(draws.integers(1, 97))) % 97:02}{value[4:]}"

    templates = [partial(faker.parse, form) for form in _TABLES["decoy_templates"]]
    makers: tuple[Callable[[], str], ...] = (
        *(
            partial(faker.bothify, form, string.ascii_uppercase)
            for form in (script.order + "#" * 10, *_TABLES["decoys"])
        ),
        lambda: wrong_last_digit(faker.credit_card_number("visa16")),
        lambda: _card_in_groups(wrong_last_digit(faker.credit_card_number("mastercard")), " "),
        with_wrong_check_digits,
        lambda: f"invoice #{draws.integers(10**7, 10**8)}",
        *templates[:-3],
        lambda: f"{faker.word()}@{draws.integers(1, 9)}.{draws.integers(9)}.{draws.integers(9)}",
        *templates[-3:],
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
