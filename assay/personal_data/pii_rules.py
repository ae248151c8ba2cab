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
from assay.personal_data.folding import FOLDABLE, LATIN, WORD_START, context_words, folded
from assay.personal_data.phone_numbers import follows_other_number, key_of, phone_numbers
from assay.personal_data.secret_values import KEY_GATE, PASSWORD_GATE, secret_values
from assay.text.prefilter import Condition, each, is_wide, where

_Found = tuple[int, int, str]
"""Where a value begins and ends in a text, and what makes it the same as another."""
_MAX_ROUNDS = 10

_LETTERS = (
    "0-9A-Za-z_\u00aa\u00b5\u00ba\u00c0-\u1fff\u2c00-\u2dff\u3040-\ufdcf\ufe70-\ufefc\U00010000-\U0001efff"
    "\U00020000-\U000e0fff"
)
"""Letters, digits and marks of any script: all but ASCII's punctuation, and the blocks of punctuation and emoji."""
_EMAIL_GATE = r"[^ @]@(?:\s?[\s>]*[^ @]+\.[^ @]|\[)"
_TOP_LEVELS = "com|net|org|edu|gov|info|io|co|eu|de|fr|uk|nl|es|it|pl|ru|cn|jp|kr|tw|hk|th|in|il|gr|br|us"
"""Ends of addresses that count as such also where the next character would make them another."""


def _email_pattern(letters: str) -> re.Pattern[str]:
    """Addresses made of the letters of a class, which other letters may touch."""
    local = f"{letters}.%+'&\\-"
    return re.compile(
        rf"""(?xi) (?<![{local}]) [.%+'&\-]*+
        (?P<value>
            [{letters}] [{local}]*+ @ (?: [ \t]*+ \r?\n [ \t>]*+        # broken over a line end
              | [ ] (?= [a-z0-9\-]++ \. (?: {_TOP_LEVELS} ) (?! \.?[{letters}@] ) ) )?
            (?: (?! [0-9]x\.(?:png|jpe?g|gif|webp|svg|pdf) (?! [{LATIN}] ) )  # logo@2x.png
                (?: [{letters}]++ (?: -++ [{letters}]++ )*+ (?: \. | [\u3002\uff61] (?= [a-z] ) )
                    (?: \r?\n [ \t>]*+ (?= (?-i:{_TOP_LEVELS}) (?! [{letters}.] ) ) )? )+
                (?: xn--[a-z0-9\-]{{2,59}}
                  | (?: {_TOP_LEVELS} ) (?= [0-9]{{4}} ) | (?-i: [a-z]{{2,6}} (?= [A-Z][a-z] ) )     # glued on
                  | (?: (?![0-9_]) [{LATIN}] ){{2,63}} (?! [{LATIN}] )
                  | (?: (?![0-9_]) [{letters}] ){{2,63}} (?! [{letters}] ) )
              | \[? [0-9]{{1,3}} (?: \.[0-9]{{1,3}} ){{3}} (?! [0-9] ) \]?
            )
        )"""
    )


_AT = r"(?: %40 | \s? [\[({] \s? (?: at | ät | arroba | @ ) \s? [\])}] \s? )"
_DOT = r"(?: \. | %2e | \s? [\[({] \s? (?: d[o0]t | punkt | punto | point | ponto | [.] ) \s? [\])}] \s? )"
_WORD = rf"(?: [{LATIN}+\-] | %2[bd] )++"
_EMAILS = (
    _email_pattern(LATIN),
    _email_pattern(_LETTERS),
    re.compile(
        rf"(?xi) (?<![{LATIN}.+\-]) (?P<value> {_WORD} (?: {_DOT} {_WORD} ){{0,8}}+ {_AT}"
        rf"{_WORD} (?: {_DOT} {_WORD} ){{0,8}} {_DOT} (?: (?! [0-9_] ) [{LATIN}] ){{2,24}} ) (?! [{LATIN}] )"
    ),
)
"""In this order: `邮箱jo@example.com` has an address of Latin letters, `用户@例子.广告` one of others."""
_SPELLED_GATE = r"(?i)%40|[\[({]\s?(?:at|ät|arroba|@)\s?[\])}]"
_GLUED_SENTENCE = re.compile(r"\.[A-Z][a-z]+\Z")
_FOREIGN = "\u0370-\u1dff\u1f00-\u1fff\u2c00-\u2dff\u3040-\ufdff\ufe70-\ufefc"
_URL_LETTERS = rf"[/=_\-][\u0370-\u0dff\u10a0-\u167f\u1f00-\u1fff]+|=[{_FOREIGN}]+"
"""Letters of other scripts end an address, `https://x.org/a입니다`, unless a part of the path begins with them, in a
script with spaces, or a value."""
_URL_TAIL = rf"(?:{_URL_LETTERS}|[!#-;=?-_a-~À-ɏ])*(?:{_URL_LETTERS}|[#-&(+\-/-9=@-Z\\^a-|~À-ɏ])"
_URL_HOST = rf"(?:[{_FOREIGN}][{_FOREIGN}\w\-]*(?:\.[{_FOREIGN}\w\-]+)*)".replace(r"\w", "0-9A-Za-z")
_URL_SCHEME = r"(?i-u:https?|ftp)[:\uff1a]//"
_URL = (
    rf"(?:{_URL_SCHEME}{_URL_HOST}?|(?-u:\b)(?i-u:www)\."
    # An address without its scheme is one when a path follows: bit.ly/x1, but not amazon.com, a name in a sentence.
    r"|(?-u:\b)(?i-u:(?:[a-z0-9][a-z0-9\-]*\.)+"
    rf"(?:com|org|net|edu|gov|info|io|ly|me|gl|gd|co|fm|tv|cc|us|uk|de|fr|eu|ca|au|jp))/){_URL_TAIL}"
    rf"|{_URL_SCHEME}{_URL_HOST}"
)
_URL_SIGNS = ("/", "www.")
_URL_CREDENTIALS = rf"[A-Za-z][A-Za-z0-9+.\-]*://[^\s/?#<>\"@:]*:[^\s/?#<>\"]+@{_URL_TAIL}"
_MARK = "\ufdd0"
"""A code point that Unicode keeps free for use inside a program; no text has it."""
_IBAN_GATE = "[0-9]{3}"
_IBAN_CANDIDATE = (
    f"(?:^|[^0-9A-Za-z])(?i-u:(?:iban)?(?:{'|'.join(check_digits.IBAN_COUNTRIES)}))"
    "[ \u00a0\u202f-]?[0-9]{2}(?:[ \u00a0\u202f.-]?[0-9A-Za-z]){11}"
)
_IBAN_START = re.compile(r"(?i)(?<![0-9a-z])(?:iban)?(?=(?P<country>[a-z]{2})[ \u00a0-]?[0-9]{2}[ \u00a0.-]?[0-9a-z])")
_CARD_GATE = r"[0-9]{4}(?:[^0-9A-Za-z]?[0-9]){8}"
_CARD_GAP = "[ \u00a0\u202f.\u2010-\u2013-]"
_CARD_START = re.compile(
    "(?i)(?<![0-9][.])(?:(?<![0-9A-Za-z_+$€£])|(?<=card)|(?<=visa)|(?<=amex)|(?<=karte))"
    f"(?=[0-9]{{12,19}}(?![0-9])|[0-9]{{4}}{_CARD_GAP}[0-9]{{3}})"
)
_CARD_RUN = re.compile(
    f"[0-9]{{12,19}}(?![0-9])"
    f"|[0-9]{{4}}(?:{_CARD_GAP}[0-9]{{3,6}}(?![0-9])){{1,4}}(?:{_CARD_GAP}[0-9]{{1,6}}(?![0-9]))?"
)
_DIGITS = re.compile("[0-9]+")
_LATIN = re.compile(f"[{LATIN}]")
_IP_GATE = r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:"
"""It begins with marks and not with digits, so that Rust can leap from mark to mark."""
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(
    rf"(?:(?<![{LATIN}.+])|(?<![A-Za-z]IP)(?<=IP))(?<![0-9][,:/-])(?<![$€£#§])(?<![a-z]-)(?P<value>(?!0\.(?!0\.0\.0)){_OCTET}(?:\.{_OCTET}){{3}})"
    rf"(?P<network>/(?:3[0-2]|[12]?[0-9])(?![0-9]|\.[0-9]))?(?![{LATIN}]|\.[0-9]|-[A-Za-z0-9]*[A-Za-z])"
)
_IPV6 = re.compile(
    rf"(?i)(?<![{LATIN}:.])(?P<value>[0-9a-f]{{0,4}}:[0-9a-f]{{0,4}}:[0-9a-f:]{{0,31}}"
    r"(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?)(?:%[0-9a-z]{1,15})?"
    rf"(?P<network>/[0-9]{{1,3}}(?![0-9]|\.[0-9]))?(?![{LATIN}:]|\.[0-9])"
)
_AFTER_VERSION = re.compile(
    rf"""(?xi) (?:
        {WORD_START}
        (?: (?: v | ver | vers | versions? | firmware | sections? | chapters? | clauses? | paragraphs? ) \b
            [^.!?\n0-9]{{0,24}}
          | (?: rev | revision | releases? | sect | para | appendix | fig | figure | table | step | build | drivers?
              | software | update | upgraded? | downgraded? | patch | oid | abschnitt | kapitel | ziffer | absatz ) \b
            (?: [\s:=\#.(\[] | no\b | number | is\b | to\b | from\b )*
        )
        (?: v?[0-9]+(?:\.[0-9]+)+ [^0-9\n.!?]{{1,8}} )*
      | (?: chrome|chromium|crios|edga?|edge|opr|version|safari|firefox|webkit|webview|browser ) /
      | § [ \u00a0]? | [a-z\])] [ ]? [<>~]= [ ]? | (?<!ip) (?<!addr) (?<!host) (?<!src) (?<!dst) ==
      | (?: 版本 | バージョン | 버전 | เวอร์ชัน | إصدار | גרסה | верси[ияюей]+ | έκδοση | संस्करण ) [号は은\s:\uff1a]*
    ) \Z"""
)
_VERSION_LETTER = re.compile(r"[^\W\d_]|§")
_CONTEXT_CHARACTERS = 60

_PASSPORT_WORDS = context_words("passport")
_PASSPORT = re.compile(
    rf"(?i)(?:{_PASSPORT_WORDS})(?:[\s:\uff1a#.号번호番号]|no\b|nr\b|number|nummer|is\b)*+"
    rf"(?P<value>(?=[a-z]{{0,3}}[0-9])[0-9a-z]{{6,10}})(?![{LATIN}])"
)
_NATIONAL_GATE = (
    r"[0-9](?:[^0-9A-Za-z]?[0-9]){5}|[A-Za-z]{6}[0-9]{2}[A-Za-z][0-9]{2}"  # the second: Italy's are mostly letters
)
_NATIONAL = re.compile(
    rf"""(?xi) (?=[0-9a-z]) (?<![{LATIN}+]) (?<![0-9][.,/-]) (?<![$€£#])
    (?: {check_digits.NATIONAL_FORMS} ) (?! [{LATIN}] | [.,-][0-9] )"""
)
_AFTER_WORD = {
    kind: re.compile(rf"(?i){WORD_START}(?:{context_words(kind)})(?:[\s:=#.\"'-]|number|num|no|is|was)*\Z")
    for kind in ("us_bare", "nl", "pl", "de")
} | {"th": re.compile("[\u0e00-\u0e7f]")}
"""Kinds whose digits without gaps may be another number, and the words before them that tell."""
_ALSO = {"us_bare": ("us_bare", "nl"), "de": ("de", "pl")}
_PHONE_GATE = r"[0-9](?:[^0-9A-Za-z]{0,4}[0-9]){6}|1-8[0-9]{2}-[A-Z]"


def redact_url_credentials(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every URL that has a user's name and password before its host by `<URL_CREDENTIALS>`."""
    return _redacted_by_pattern(text, "URL_CREDENTIALS", _URL_CREDENTIALS, ("://",), numbered)


def redact_secret(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace keys, tokens and what follows "password:" by `<SECRET>`; see `secret_values`."""
    change = each(lambda one: _replaced(one, "SECRET", secret_values, numbered, view=str))
    return where(text, [("[0-9]", PASSWORD_GATE), (KEY_GATE,)], change)


def redact_email(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every e-mail address by `<EMAIL>`, also `user%40x.org` and `jo [at] x [dot] org`; `mailto:` stays."""
    return _redacted(text, "EMAIL", [(_EMAIL_GATE,), (_SPELLED_GATE,)], _emails, numbered)


def redact_url(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every address with a scheme, with `www.`, or with a path by `<URL>`; punctuation after it stays."""
    return _redacted_by_pattern(text, "URL", _URL, _URL_SIGNS, numbered)


def redact_iban(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every International Bank Account Number by `<IBAN>`: its country's form, its check digits right."""
    return _redacted(text, "IBAN", [(_IBAN_GATE, _IBAN_CANDIDATE)], _ibans, numbered)


def redact_card(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every payment card number by `<CARD>`: an issuer's first digits and length, its check digit right (Luhn).

    In groups, the first must have four digits. Lengths that barcodes, time stamps and tracking numbers have as well do
    not count after words such as "order".
    """
    return _redacted(text, "CARD", [(_CARD_GATE,)], _cards, numbered)


def redact_national_number(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace national numbers of people that have a strict form or check digits by `<NATIONAL_NUMBER>`.

    United States (SSN, with hyphens or spaces, or after "SSN"), United Kingdom (NINO), France (NIR), Spain (DNI, NIE),
    Italy (codice fiscale), Germany (tax identification number), India (Aadhaar), Switzerland (AHV), Brazil (CPF, with
    its dots), China, South Korea, Thailand, Sweden (identity numbers); after their names the Dutch
    BSN, the Polish PESEL, and passports.
    """
    text = _redacted(text, "NATIONAL_NUMBER", [(f"(?i:{_PASSPORT_WORDS})",)], _passports, numbered)
    return _redacted(text, "NATIONAL_NUMBER", [(_NATIONAL_GATE,)], _national_numbers, numbered)


def redact_ip(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every IP address of version 4 or 6 by `<IP>`, with the length of its network; not version numbers."""
    return _redacted(text, "IP", [(_IP_GATE,)], _ip_addresses, numbered)


def redact_phone(text: pl.Expr, *, numbered: bool) -> pl.Expr:
    """Replace every phone number, as people of many countries write them, by `<PHONE>`; see `phone_numbers`."""
    return _redacted(text, "PHONE", [(_PHONE_GATE,)], _phones, numbered)


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
    if (glued := _GLUED_SENTENCE.search(value)) and domain[: glued.start() - len(value)].islower():
        value, end = value[: glued.start()], end - len(glued.group())
        if "." not in domain[: -len(glued.group())]:
            return None
    return match.start("value"), end, re.sub(r"\s", "", value.lower())


def _ibans(text: str) -> Iterator[_Found]:
    at = 0
    while start := _IBAN_START.search(text, at):
        at = start.end() + 2
        pattern = check_digits.iban_pattern(start["country"].upper())
        if pattern and (match := pattern.match(text, start.end())):
            value = re.sub("[^0-9A-Za-z]", "", match.group()).upper()
            if check_digits.is_iban(value):
                yield match.start(), match.end(), value
                at = match.end()


def _cards(text: str) -> Iterator[_Found]:
    at = 0
    while start := _CARD_START.search(text, at):
        at = start.end() + 1
        if found := _card_from(text, start.end()):
            yield found
            at = found[1]


def _card_from(text: str, at: int) -> _Found | None:
    """The longest card number of whole groups of digits that begins here; None if none does."""
    run = _CARD_RUN.match(text, at)
    if run is None:
        return None
    ends = [match.end() for match in _DIGITS.finditer(run.group())]
    digits = [run.group()[: ends[0]]]
    for start, end in itertools.pairwise(ends):
        digits.append(digits[-1] + run.group()[start + 1 : end])
    for end, number in zip(reversed(ends), reversed(digits), strict=True):
        if not 12 <= len(number) <= 19 or not check_digits.is_card(number):
            continue
        if _LATIN.match(text, at + end):
            continue
        bare = len(number) in check_digits.RARE_CARD_DIGITS and len(number) == end
        if bare and follows_other_number(text[max(0, at - _CONTEXT_CHARACTERS) : at]):
            continue
        return at, at + end, number
    return None


def _passports(text: str) -> Iterator[_Found]:
    for match in _PASSPORT.finditer(text):
        yield *match.span("value"), match["value"].upper()


def _national_numbers(text: str) -> Iterator[_Found]:
    for match in _NATIONAL.finditer(text):
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
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - _CONTEXT_CHARACTERS) : match.start()]
        if not (_VERSION_LETTER.search(before) and _AFTER_VERSION.search(before)):
            yield match.start(), match.end(), match["value"]


def _ipv6_addresses(text: str) -> Iterator[_Found]:
    for match in _IPV6.finditer(text):
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
