"""Rules that replace personal data by placeholders that say what stood there: `<EMAIL>`, `<CARD>`, `<PHONE>`.

With `numbered`, a placeholder carries a number, and the same value within a text gets the same one: `<EMAIL_1>` wrote
to `<EMAIL_2>`, and `<EMAIL_1>` answered. Case, spaces and other matters of spelling do not count. A text that already
has `<EMAIL_1>` continues with 2. No rule finds anything in a placeholder.

What can prove itself by check digits has to; the others must be written as what they are, and words before them can say
that they are something else: an order number, a version. All but URLs and secrets are looked for in the text as
`folding.folded` shows it.

Order, and why: `redact_url_credentials` first, before a password and its host are taken for an e-mail address, and
the whole for any URL; `redact_secret` before what is in a key or a password; `redact_email` before `redact_url`, so
that an address in a link still shows as one; then the kinds with check digits, the strictest form first: `redact_iban`,
`redact_card`, `redact_national_number`; then `redact_ip`; `redact_phone` last, for it takes numbers of many forms.
"""

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import polars as pl

from assay.core.placeholders import placeholders
from assay.personal_data import check_digits
from assay.personal_data.folding import FOLDABLE, LATIN, context_words, folded, read_patterns
from assay.personal_data.phone_numbers import follows_other_number, key_of, phone_numbers
from assay.personal_data.secret_values import KEY_GATE, PASSWORD_GATE, secret_values
from assay.text.prefilter import Condition, each, is_wide, where

_Found = tuple[int, int, str]
"""Where a value begins and ends in a text, and what makes it the same as another."""
_MAX_ROUNDS = 10

_CONTEXT_CHARACTERS = 60
_MARK = "\ufdd0"
"""A code point that Unicode keeps free for use inside a program; no text has it."""
_PATTERNS = read_patterns(
    "pii_rules", iban_countries="|".join(check_digits.IBAN_COUNTRIES), national_forms=check_digits.NATIONAL_FORMS
)
_PYTHONS = (
    *("spelled_email", "glued_sentence", "iban_start", "card_start", "card_run", "ipv4", "ipv6"),
    *("after_version", "version_letter", "passport", "national"),
)
_RE = {name: re.compile(_PATTERNS[name]) for name in _PYTHONS}
_EMAILS = (
    *(re.compile(_PATTERNS["email"].replace("LETTERS", letters)) for letters in (LATIN, _PATTERNS["letters"])),
    _RE["spelled_email"],
)
"""In this order: `邮箱jo@example.com` has an address of Latin letters, `用户@例子.广告` one of others."""
_AFTER_WORD = {
    kind: re.compile(_PATTERNS["after_national_word"].replace("WORDS", context_words(kind)))
    for kind in ("us_bare", "nl", "pl", "de")
} | {"th": re.compile("[\u0e00-\u0e7f]")}
"""Kinds whose digits without gaps may be another number, and the words before them that tell."""
_ALSO = {"us_bare": ("us_bare", "nl"), "de": ("de", "pl")}


def redact_url_credentials(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every URL that has a user's name and password before its host by `<URL_CREDENTIALS>`."""
    return _redacted_by_pattern(text, "URL_CREDENTIALS", _PATTERNS["url_credentials"], ("://",), numbered)


def redact_secret(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace keys, tokens and what follows "password:" by `<SECRET>`; see `secret_values`."""
    change = each(lambda one: _replaced(one, "SECRET", secret_values, numbered, view=str))
    return where(text, [("[0-9]", PASSWORD_GATE), (KEY_GATE,)], change)


def redact_email(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every e-mail address by `<EMAIL>`, also `user%40x.org` and `jo [at] x [dot] org`; `mailto:` stays."""
    return _redacted(text, "EMAIL", [(_PATTERNS["email_gate"],), (_PATTERNS["spelled_email_gate"],)], _emails, numbered)


def redact_url(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every address with a scheme, with `www.`, or with a path by `<URL>`; punctuation after it stays."""
    return _redacted_by_pattern(text, "URL", _PATTERNS["url"], ("/", "www."), numbered)


def redact_iban(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every International Bank Account Number by `<IBAN>`: its country's form, its check digits right."""
    return _redacted(text, "IBAN", [(_PATTERNS["iban_gate"], _PATTERNS["iban_candidate"])], _ibans, numbered)


def redact_card(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every payment card number by `<CARD>`: an issuer's first digits and length, its check digit right (Luhn).

    In groups, the first must have four digits. Lengths that barcodes, time stamps and tracking numbers have as well do
    not count after words such as "order".
    """
    return _redacted(text, "CARD", [(_PATTERNS["card_gate"],)], _cards, numbered)


def redact_national_number(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace national numbers of people that have a strict form or check digits by `<NATIONAL_NUMBER>`.

    United States (SSN, with hyphens or spaces, or after "SSN"), United Kingdom (NINO), France (NIR), Spain (DNI, NIE),
    Italy (codice fiscale), Germany (tax identification number), India (Aadhaar), Switzerland (AHV), Brazil (CPF, with
    its dots), China, South Korea, Thailand, Sweden (identity numbers); after their names the Dutch
    BSN, the Polish PESEL, and passports.
    """
    text = _redacted(text, "NATIONAL_NUMBER", [(f"(?i:{_PATTERNS['passport_words']})",)], _passports, numbered)
    return _redacted(text, "NATIONAL_NUMBER", [(_PATTERNS["national_gate"],)], _national_numbers, numbered)


def redact_ip(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every IP address of version 4 or 6 by `<IP>`, with the length of its network; not version numbers."""
    return _redacted(text, "IP", [(_PATTERNS["ip_gate"],)], _ip_addresses, numbered)


def redact_phone(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every phone number, as people of many countries write them, by `<PHONE>`; see `phone_numbers`."""
    return _redacted(text, "PHONE", [(_PATTERNS["phone_gate"],)], _phones, numbered)


def _redacted(
    text: pl.Expr,
    kind: str,
    gates: list[tuple[Condition, ...]],
    find: Callable[[str], Iterable[_Found]],
    numbered: bool,
) -> pl.Expr:
    """What `find` finds replaced, in the texts in which Rust's linear regular expressions `gates` find a candidate.

    The gates do not see digits and letters that are folded, so texts with those are looked at without.
    """
    return where(text, [*gates, (is_wide, FOLDABLE)], each(lambda one: _replaced(one, kind, find, numbered)))


def _redacted_by_pattern(text: pl.Expr, kind: str, pattern: str, signs: Sequence[str], numbered: bool) -> pl.Expr:
    """Matches of one of Rust's regular expressions, each of which has one of the signs in it, replaced.

    To be numbered, Rust puts marks around them, and Python the numbers in their place.
    """

    def marked(some: pl.Expr) -> pl.Expr:
        return some.str.replace_all(_MARK, "\ufffd", literal=True).str.replace_all(pattern, f"{_MARK}${{0}}{_MARK}")

    def between_marks(text: str) -> str:
        parts = text.split(_MARK)
        name_of = placeholders(text, kind, numbered)
        return "".join(name_of(part) if place % 2 else part for place, part in enumerate(parts))

    def change(some: pl.Expr) -> pl.Expr:
        return each(between_marks)(marked(some)) if numbered else some.str.replace_all(pattern, f"<{kind}>")

    def has_a_sign(one: pl.Expr) -> pl.Expr:
        return one.str.contains_any(list(signs), ascii_case_insensitive=True)

    return where(text, (has_a_sign, pattern), change)


def _replaced(
    text: str, kind: str, find: Callable[[str], Iterable[_Found]], numbered: bool, view: Callable[[str], str] = folded
) -> str:
    """A text with a placeholder for each value; again, as long as one that is gone leaves another free to be found.

    `find` sees the `view` of the text, which is of the same length.
    """
    name_of = placeholders(text, kind, numbered)
    for _ in range(_MAX_ROUNDS):
        pieces, at = [], 0
        for start, end, key in find(view(text)):
            pieces += [text[at:start], name_of(key)]
            at = end
        if not pieces:
            break
        text = "".join([*pieces, text[at:]])
    return text


def _emails(text: str) -> list[_Found]:
    """What the first of the patterns finds that finds anything; the others have their turn once that is gone."""
    for pattern in _EMAILS:
        if found := [one for match in pattern.finditer(text) if (one := _without_glued_sentence(match))]:
            return found
    return []


def _without_glued_sentence(match: re.Match[str]) -> _Found | None:
    """The address, without the sentence glued to it in `jane@example.com.Thanks`; None if that leaves none."""
    value, end = match["value"], match.end()
    sign = value.rfind("@")
    domain = value[sign:] if sign >= 0 else ""
    if (glued := _RE["glued_sentence"].search(value)) and domain[: glued.start() - len(value)].islower():
        value, end = value[: glued.start()], end - len(glued.group())
        if "." not in domain[: -len(glued.group())]:
            return None
    return match.start("value"), end, re.sub(r"\s", "", value.lower())


def _ibans(text: str) -> Iterator[_Found]:
    at = 0
    while start := _RE["iban_start"].search(text, at):
        at = start.end() + 2
        pattern = check_digits.iban_pattern(start["country"].upper())
        if pattern and (match := pattern.match(text, start.end())):
            value = re.sub("[^0-9A-Za-z]", "", match.group()).upper()
            if check_digits.is_iban(value):
                yield match.start(), match.end(), value
                at = match.end()


def _cards(text: str) -> Iterator[_Found]:
    at = 0
    while start := _RE["card_start"].search(text, at):
        at = start.end() + 1
        if found := _card_from(text, start.end()):
            yield found
            at = found[1]


def _card_from(text: str, at: int) -> _Found | None:
    """The longest card number of whole groups of digits that begins here; None if none does."""
    run = _RE["card_run"].match(text, at)
    if run is None:
        return None
    ends = [match.end() for match in re.finditer("[0-9]+", run.group())]
    digits = [run.group()[: ends[0]]]
    for start, end in itertools.pairwise(ends):
        digits.append(digits[-1] + run.group()[start + 1 : end])
    for end, number in zip(reversed(ends), reversed(digits), strict=True):
        if not 12 <= len(number) <= 19 or not check_digits.is_card(number):
            continue
        if re.match(f"[{LATIN}]", text[at + end : at + end + 1]):
            continue
        bare = len(number) in check_digits.RARE_CARD_DIGITS and len(number) == end
        if bare and follows_other_number(text[max(0, at - _CONTEXT_CHARACTERS) : at]):
            continue
        return at, at + end, number
    return None


def _passports(text: str) -> Iterator[_Found]:
    for match in _RE["passport"].finditer(text):
        yield *match.span("value"), match["value"].upper()


def _national_numbers(text: str) -> Iterator[_Found]:
    for match in _RE["national"].finditer(text):
        form = next(name for name in check_digits.NATIONAL_CHECKS if name in match.groupdict() and match[name])
        written = match.group()
        value = re.sub("[^0-9A-Za-z]", "", written).upper()
        before = text[max(0, match.start() - _CONTEXT_CHARACTERS) : match.start()]
        kinds = [kind for kind in _ALSO.get(form, (form,)) if check_digits.NATIONAL_CHECKS[kind](value)]
        if value == written:  # without gaps, it may be another number
            is_mobile_phone = re.match("1[3-9]|8[3489]", value)
            kinds = [
                kind
                for kind in kinds
                if kind not in _AFTER_WORD or (kind == "de" and not is_mobile_phone) or _AFTER_WORD[kind].search(before)
            ]
            if kinds and form in ("ind", "de") and follows_other_number(before):
                continue
        if kinds:
            yield match.start(), match.end(), value


def _ip_addresses(text: str) -> Iterator[_Found]:
    found = [*_ipv4_addresses(text), *_ipv6_addresses(text)]
    end = 0
    for start, after, key in sorted(found):
        if start >= end:
            yield start, after, key
            end = after


def _ipv4_addresses(text: str) -> Iterator[_Found]:
    for match in _RE["ipv4"].finditer(text):
        before = text[max(0, match.start() - _CONTEXT_CHARACTERS) : match.start()]
        if not (_RE["version_letter"].search(before) and _RE["after_version"].search(before)):
            yield match.start(), match.end(), match["value"]


def _ipv6_addresses(text: str) -> Iterator[_Found]:
    for match in _RE["ipv6"].finditer(text):
        value, end = match["value"], match.end()
        if value[-1] == ":" and value[-2] != ":" and end == match.end("value"):
            value, end = value[:-1], end - 1  # the sentence's colon
        try:
            address = ipaddress.IPv6Address(value)
        except ValueError:
            continue
        groups = [group for group in value.split(":") if group]
        is_time_or_name = len(groups) < 3 and max(map(len, groups), default=0) < 3
        if re.search("[0-9]", value) and (value == "::1" or not ("::" in value and is_time_or_name)):
            yield match.start(), end, address.compressed


def _phones(text: str) -> Iterator[_Found]:
    for start, end in phone_numbers(text):
        yield start, end, key_of(text[start:end])
