"""Rules that bring different ways of writing the same thing to one: characters, white space, words, numbers, dates.

Each changes what a text looks like and, rightly used, not what it says. Some models profit (a bag of words, an uncased
encoder), some lose (a sentiment model reads "soooo" and "!!!"): so each can be switched by itself, and per source.

Where a notation has two readings (is 1.234 a thousand or a little more than one?), a rule leaves it as it is.

Order: `fold_compatibility` and `straighten_quotes_and_dashes` before everything that looks for ASCII characters;
`unify_numbers` before white space is collapsed, since a no-break space inside a number tells that it is one; the rules
that change case last, since currency codes and placeholders are known by their capitals. All of them after addresses
and phone numbers have been redacted: a lower-case URL is another URL, and its full stops are not those of a sentence.
"""

import re
from collections.abc import Mapping
from datetime import date
from functools import partial

import polars as pl

from assay.cleaning.word_table import expanded, gate_pattern
from assay.text.prefilter import each, is_wide, where

_PLACEHOLDER = r"<[A-Z][A-Z0-9_]*>"
_ADDRESS = re.compile(rf"@|://|^\W*www\.|{_PLACEHOLDER}")
"""In a piece of text without white space: an e-mail address, a mention, a URL, a placeholder."""

_STRAIGHT = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe58\ufe63", "-"),
    **dict.fromkeys("\u2014\u2015", "--"),
    "\u2025": "..",
    "\u2026": "...",
}

_PUNCTUATION = "!?.,;:-_*~=…"
_PUNCTUATION_GATE = "|".join(rf"\{mark}{{4}}" if mark.isascii() else f"{mark}{{4}}" for mark in _PUNCTUATION)
_PUNCTUATION_RUN = re.compile(rf"(?:https?://|www\.)[^\s<>\"]*[\w/]|([{re.escape(_PUNCTUATION)}])\1{{3,}}")


def _letters(*ranges: tuple[int, int]) -> str:
    return "".join(chr(code) for first, last in ranges for code in range(first, last + 1) if chr(code).isalpha())


_ASCII_LETTERS = _letters((0x41, 0x7A))
_WIDE_LETTERS = _letters((0xC0, 0x17F), (0x370, 0x3FF), (0x400, 0x45F))
"""Accented Latin, Greek, Cyrillic. In Chinese or Japanese, three times the same sign is often a word."""
_ASCII_RUNS = "|".join(letter * 3 for letter in _ASCII_LETTERS)
_WIDE_RUNS = "|".join(letter * 3 for letter in _WIDE_LETTERS)
_LETTER_RUN = re.compile(rf"([{_ASCII_LETTERS}{_WIDE_LETTERS}])\1{{2,}}")
_ELONGATED_PIECE = re.compile(rf"(?<!\S)\S*?{_LETTER_RUN.pattern}\S*")
_ROMAN = re.compile(r"(?i)m{0,4}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
_HEX_COLOUR = re.compile(r"(?i)[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8}")
_SHOUTED_GATE = "[A-Z]{2}[^a-z]+[A-Z]{2}[^a-z]+[A-Z]{2}"
_WIDE_SHOUTED_GATE = r"\p{Lu}{2}\P{Ll}+\p{Lu}{2}\P{Ll}+\p{Lu}{2}"
_MIN_SHOUTED_WORDS = 5
_MIN_SHOUTED_SHARE = 0.9
_THIN = "\u00a0\u2009\u202f"
"""No-break, thin and narrow no-break space: what typesetters put between thousands."""
_NUMBER_GATE = rf"[0-9][.,'\u2019{_THIN}][0-9]{{3}}"
_NUMBER = re.compile(rf"(?<![\w.,'\u2019{_THIN}])[0-9]++(?:[.,'\u2019{_THIN}][0-9]++)++")
_FIRST = "[1-9][0-9]{0,2}"
_BY_COMMA = re.compile(rf"({_FIRST}(?:,[0-9]{{3}})+)(?:\.([0-9]+))?")
_BY_POINT = re.compile(rf"({_FIRST}(?:\.[0-9]{{3}})+),([0-9]{{1,2}})|({_FIRST}(?:\.[0-9]{{3}}){{2,}})")
_BY_APOSTROPHE = re.compile(
    rf"({_FIRST}(?:['\u2019][0-9]{{3}})+)\.([0-9]{{1,2}})|({_FIRST}(?:['\u2019][0-9]{{3}}){{2,}})(?:\.([0-9]+))?"
)
_BY_SPACE = re.compile(rf"({_FIRST}(?:[{_THIN}][0-9]{{3}})+)(?:[.,]([0-9]{{1,2}}))?")
_SEPARATORS = re.compile(rf"[.,'\u2019{_THIN}]")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_YEAR = "(?:1[5-9]|2[01])[0-9]{2}"
_DATE_GATE = rf"[0-9][/.\-]{_YEAR}|{_YEAR}/[0-9]|(?i-u:\b(?:{_MONTH})\b)"
_DATE = re.compile(
    rf"""(?ix) (?<![\w./:\-])
    (?: (?P<year>{_YEAR}) / (?P<month>[0-9]{{1,2}}) / (?P<day>[0-9]{{1,2}})
      | (?P<one>[0-9]{{1,2}}) (?P<mark>[/.\-]) (?P<two>[0-9]{{1,2}}) (?P=mark) (?P<year_2>{_YEAR})
      | (?P<day_3>[0-9]{{1,2}}) (?:st|nd|rd|th)? (?:\s{{1,3}}of)? (?:\s{{1,3}}|-)
        (?P<month_3>{_MONTH}) (?:\.?,?\s{{1,3}}|-) (?P<year_3>{_YEAR})
      | (?P<month_4>{_MONTH}) \.?\s{{1,3}} (?P<day_4>[0-9]{{1,2}}) (?:st|nd|rd|th)? (?:,\s{{0,3}}|\s{{1,3}})
        (?P<year_4>{_YEAR})
    ) (?! [\w/\-] | [.:]\w | ,[0-9] )"""
)

_CODE = "USD|EUR|GBP|CHF|JPY|CAD|AUD|NZD|HKD|SGD|SEK|NOK|DKK|PLN|CZK|HUF|RON|INR|CNY|BRL|MXN|ZAR|KRW|ILS|THB|UAH"
"""ISO 4217, without those that are words in capitals, such as ALL and TRY."""
_DOLLARS = dict(
    pair.split()
    for pair in ("US$ USD", "AU$ AUD", "CA$ CAD", "NZ$ NZD", "HK$ HKD", "A$ AUD", "C$ CAD", "S$ SGD", "R$ BRL")
)
_SIGNS = {"€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "₪": "ILS", "₴": "UAH", "฿": "THB"}
"""Not ¥: it is a yen or a yuan."""
_SIGN_MARKS = "$" + "".join(_SIGNS)
_SIGN = "|".join([*map(re.escape, _DOLLARS), f"[{_SIGN_MARKS}]"])
_MONEY_GATE = f"(?:[{_SIGN_MARKS}]|{_CODE})[ \u00a0]?[0-9]|[0-9][ \u00a0]?(?:[{_SIGN_MARKS}A-Z])"
_AMOUNT = rf"[0-9]++(?:[.,'\u2019{_THIN}][0-9]++)*+"
_NO_MONEY_BEFORE = (
    rf"(?<![\w{_SIGN_MARKS}/.,'\u2019])(?<![0-9][{_THIN}])(?<![{_SIGN_MARKS}][ \u00a0])(?<!(?:{_CODE})[ \u00a0])"
)
"""No number that goes on, and no other currency: which of two belongs to the amount, nothing tells."""
_MONEY = re.compile(
    rf"""{_NO_MONEY_BEFORE}(?x:
        (?: (?P<sign>{_SIGN}) | (?<![0-9]\ ) (?P<code>{_CODE}) ) [\ \u00a0]? (?P<amount>{_AMOUNT})
        (?: [\ \u00a0]? (?P<also>{_CODE}) (?!\w) )?+
        (?! [\w{_SIGN_MARKS}] | [.,'\u2019]-?[0-9] | \ ?[\-\u2013]\ ?[0-9] | [.,]-
          | \ ?(?i:k|m|mn|mio|mill?|b|bn|hundred|thousand|grand|lakhs?|crores?|(?:mill|bill|trill)ions?)\b )
      | (?P<amount_2>{_AMOUNT}) [\ \u00a0]? (?: (?P<code_2>{_CODE}) (?!\w) | (?P<sign_2>{_SIGN}) (?![\ \u00a0]?[0-9]) )
        (?! [\w{_SIGN_MARKS}] )
    )"""
)
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[0-9]+,[0-9]{2}")


def fold_compatibility(text: pl.Expr) -> pl.Expr:
    """Replace compatibility characters (full width, ligatures, styled letters) by the plain ones (Unicode NFKC).

    It loses what the form said: m² becomes m2, 10² becomes 102, ™ becomes TM and ① becomes 1. So it is for
    texts in which people write in wide or in mathematical letters, and to find addresses that are written so.
    """
    return where(text, is_wide, lambda wide: wide.str.normalize("NFKC"))


def straighten_quotes_and_dashes(text: pl.Expr) -> pl.Expr:
    """Replace typographic quotes, primes, dashes, hyphens and ellipses by their ASCII forms.

    An em dash becomes two hyphens, since with one, two words would turn into a compound. Guillemets stay: between words
    they are quotes, but in menus and signatures they are arrows. Grave accents stay: they mark code.
    """
    return where(text, is_wide, lambda wide: wide.str.replace_many(_STRAIGHT))


def unify_numbers(text: pl.Expr) -> pl.Expr:
    """Write numbers without marks between thousands, and with a decimal point: 1,234.50 and 1.234,50 become 1234.50.

    - 1,234 and 1,234,567.8 are read as English does. A list without spaces (101,102) cannot be told from such a
      number; one whose parts do not all have three digits (3,4 or 12,345,6) stays, and so does 0,123.
    - 1.234,50 and 1.234.567 are read as German does; 1.234 stays. So does what may be an IP address or a version (no
      part above 255: 10.12.100), a phone number (three times three digits: 601.234.567) or a tax number (12.345.678-9).
    - 1'234.50 and 1'234'567 are read as Swiss do; 6'200 stays.
    - No-break, thin and narrow spaces between thousands count; a plain space does not, it parts numbers as well.
    - 12,50 stays, and so do numbers grouped by tens of thousands or otherwise (1,00,000).
    """
    return where(text, _NUMBER_GATE, each(lambda t: _NUMBER.sub(_unified_number, t)))


def unify_dates(text: pl.Expr, *, day_first: bool | None) -> pl.Expr:
    """Write complete dates as ISO 8601 does: 12 March 2024, March 12th, 2024 and 12.03.2024 become 2024-03-12.

    Months are known by their English names. A date needs a year of four digits, from 1500 to 2199. 12.03.2024, with
    points, is day first, as in the countries that write it so. 2024/03/12 is taken; 2024.03.12 stays, as versions look
    like that. Dates that do not exist, ranges (12/03/2024-13/03/2024) and parts of longer names (report_12.03.2024.pdf,
    a/2024/03/12) stay.

    `day_first` is how to read 03/04/2024 and 03-04-2024: true for 3 April, false for 4 March, None to leave them. Where
    only one reading is a date, as in 13/02/2024, that is taken.
    """
    unified = partial(_unified_date, day_first=day_first)
    return where(text, (_YEAR, _DATE_GATE), each(lambda t: _DATE.sub(unified, t)))


def unify_currencies(text: pl.Expr, *, dollar_is: str | None) -> pl.Expr:
    """Write amounts of money as number and ISO code: $ 12.50, US$12.50, 12,50 € become 12.50 USD, 12.50 USD, 12.50 EUR.

    The number is brought to the form of `unify_numbers`; next to a currency, a comma with two digits is a decimal one.
    What stays: ¥ (yen or yuan), amounts with a unit of thousands ($5k, $2 million), ranges under one sign ($20-30),
    $$$, amounts named twice and differently ($12 EUR), and currencies in words, since pounds are also weights.

    `dollar_is` is the code that a bare $ stands for, such as USD; None: such amounts stay as they are.
    """
    unified = partial(_unified_money, dollar_is=dollar_is)
    return where(text, ("[0-9]", _MONEY_GATE), each(lambda t: _MONEY.sub(unified, t)))


def expand_words(text: pl.Expr, *, word_table: Mapping[str, str]) -> pl.Expr:
    """Write abbreviations out and mend common misspellings, by the whole words of assay/cleaning/word_table.csv.

    Words glued to others by a hyphen, a slash or a full stop stay, and so do hashtags, mentions and addresses.
    """
    if not word_table:
        return text
    return where(text, gate_pattern(word_table), each(lambda t: expanded(t, word_table)))


def shorten_repeated_punctuation(text: pl.Expr) -> pl.Expr:
    """Cut more than three of the same mark in a row to three: !!!!!! becomes !!!, an ellipsis of any length three dots.

    The marks are ! ? . , ; : - _ * ~ = and …; three keep the emphasis apart from a plain mark. Alternating marks (?!?!)
    stay, and URLs do.
    """
    change = each(lambda t: _PUNCTUATION_RUN.sub(lambda run: run[1] * 3 if run[1] else run[0], t))
    return where(text, _PUNCTUATION_GATE, change)


def shorten_elongations(text: pl.Expr) -> pl.Expr:
    """Cut three or more of the same letter in a row to two: soooo becomes soo, which still is not so.

    What stays: words of one letter up to four times (AAA, www, mmm), Roman numerals, words with digits or underscores
    (0xFFF), colours (#fff), placeholders, mentions, URLs and e-mail addresses; of other scripts than Latin, Greek and
    Cyrillic, everything. Not for German, which has words such as Schifffahrt.
    """
    text = where(text, _ASCII_RUNS, each(_without_elongations))
    return where(text, (is_wide, _WIDE_RUNS), each(_without_elongations))


def tidy_white_space(text: pl.Expr) -> pl.Expr:
    """Tidy white space and keep lines: one space for a run of them, none at a line's ends, at most one empty line.

    Lines end in a line feed afterwards, and indentation is gone. The other policy is `collapse_white_space`, which
    leaves nothing for this rule to do.
    """

    def is_untidy(t: pl.Expr) -> pl.Expr:
        inside = t.str.contains(r"[\t\x0b-\r]|  | \n|\n |\n\n\n")
        ends = [check(end) for check in (t.str.starts_with, t.str.ends_with) for end in (" ", "\n")]
        return pl.any_horizontal(inside, *ends, is_wide(t))

    def tidied(t: pl.Expr) -> pl.Expr:
        lines = t.str.replace_all(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]", "\n")
        lines = lines.str.replace_all(r"[^\S\n ][^\S\n]*| [^\S\n]+", " ")
        return lines.str.replace_all(r" ?\n ?", "\n").str.replace_all(r"\n{3,}", "\n\n").str.strip_chars()

    return where(text, (_has_more_than_single_spaces, is_untidy), tidied)


def collapse_white_space(text: pl.Expr) -> pl.Expr:
    """One space for every run of white space of any kind, line ends too, and none at the ends."""
    # A single space, which is what there nearly always is, is not matched.
    runs = r"[^\S ]\s*| \s+"
    return where(text, _has_more_than_single_spaces, lambda t: t.str.replace_all(runs, " ").str.strip_chars())


def soften_shouting(text: pl.Expr) -> pl.Expr:
    """Write a text in lower case if it is in capitals throughout: five such words or more, and nine letters in ten.

    Placeholders, mentions and addresses neither count nor change. A capital at the start and the capitals of names go
    too: nothing tells which they were.
    """
    text = where(text, _SHOUTED_GATE, each(_softened))
    return where(text, (is_wide, _WIDE_SHOUTED_GATE), each(_softened))


def lower_case(text: pl.Expr) -> pl.Expr:
    """Write everything in lower case, but for placeholders such as <EMAIL> or <EMAIL_1>."""

    def around_placeholders(t: pl.Expr) -> pl.Expr:
        outside = t.str.replace_all(_PLACEHOLDER, "")
        return where(t, lambda _: outside.str.to_lowercase() != outside, each(_lowered_around_placeholders))

    # Without looking for capitals first: most texts have some.
    text = where(text, lambda t: ~t.str.contains(_PLACEHOLDER), lambda t: t.str.to_lowercase())
    return where(text, _PLACEHOLDER, around_placeholders)


def _has_more_than_single_spaces(text: pl.Expr) -> pl.Expr:
    """Whether there may be white space other than single spaces between words."""
    inside = text.str.contains("  ", literal=True) | text.str.contains(r"[\t-\r]")
    return inside | text.str.starts_with(" ") | text.str.ends_with(" ") | is_wide(text)


def _unified_number(number: re.Match[str]) -> str:
    text, start, end = number.string, number.start(), number.end()
    return _plain_number(number[0], text[max(start - 1, 0) : start], text[end : end + 2]) or number[0]


def _plain_number(number: str, before: str, after: str) -> str | None:
    """A number in digits with a decimal point; None if it has no marks between thousands, or another reading.

    `before` is the character before it, `after` are the two after it, if there are as many.
    """
    for grouped in (_BY_COMMA, _BY_POINT, _BY_APOSTROPHE, _BY_SPACE):
        if match := grouped.fullmatch(number):
            whole, *decimals = [part for part in match.groups() if part is not None]
            parts = _SEPARATORS.split(whole)
            is_unclear = not decimals and grouped in (_BY_POINT, _BY_SPACE)
            if is_unclear and _is_other_than_a_number(number, parts, before, after):
                return None
            return ".".join(["".join(parts), *decimals])
    return None


def _is_other_than_a_number(number: str, parts: list[str], before: str, after: str) -> bool:
    """Whether groups of three digits without decimals may be a phone number, a version, an address, a tax number."""
    if len(parts) == 3 and len(parts[0]) == 3:
        return True
    is_address = "." in number and all(int(part) <= 255 for part in parts)
    return is_address or before in tuple("/:+-@#") or after[:1].isalnum() or (after[:1] == "-" and after[1:].isalnum())


def _unified_date(match: re.Match[str], day_first: bool | None) -> str:
    if match["year"]:
        year, month, day = match["year"], int(match["month"]), int(match["day"])
    elif match["year_3"]:
        year, month, day = match["year_3"], _month(match["month_3"]), int(match["day_3"])
    elif match["year_4"]:
        year, month, day = match["year_4"], _month(match["month_4"]), int(match["day_4"])
    else:
        year, one, two = match["year_2"], int(match["one"]), int(match["two"])
        if one != two and one <= 12 and two <= 12:
            is_day_first = True if match["mark"] == "." else day_first
        else:
            is_day_first = one > 12 or one == two
        if is_day_first is None:
            return match[0]
        day, month = (one, two) if is_day_first else (two, one)
    try:
        return date(int(year), month, day).isoformat()
    except ValueError:
        return match[0]


def _month(name: str) -> int:
    return _MONTHS.index(name[:3].lower()) + 1


def _unified_money(match: re.Match[str], dollar_is: str | None) -> str:
    sign = match["sign"] or match["sign_2"]
    amount = match["amount"] or match["amount_2"]
    code = match["code"] or match["code_2"] or _SIGNS.get(sign) or _DOLLARS.get(sign, dollar_is)
    if also := match["also"]:
        is_dollar = sign == "$" and (also in _DOLLARS.values())
        if also != code and not is_dollar:
            return match[0]
        code = also
    if _DECIMAL_COMMA.fullmatch(amount):
        number: str | None = amount.replace(",", ".")
    else:
        number = _plain_number(amount, "", "") or (amount if _DECIMAL.fullmatch(amount) else None)
    return match[0] if code is None or number is None else f"{number} {code}"


def _without_elongations(text: str) -> str:
    return _ELONGATED_PIECE.sub(
        lambda piece: piece[0] if _ADDRESS.search(piece[0]) else re.sub(r"\w+", _without_elongations_in_word, piece[0]),
        text,
    )


def _without_elongations_in_word(match: re.Match[str]) -> str:
    word = match[0]
    is_one_letter = len(word) <= 4 and len(set(word.lower())) == 1
    is_colour = match.string.endswith("#", 0, match.start()) and _HEX_COLOUR.fullmatch(word)
    if is_one_letter or is_colour or re.search(r"[\d_]", word) or _ROMAN.fullmatch(word):
        return word
    return _LETTER_RUN.sub(r"\1\1", word)


def _is_shouted(word: str) -> bool:
    return word.isupper() and len(word) >= 2


def _softened(text: str) -> str:
    words = text.split()
    if sum(map(_is_shouted, words)) < _MIN_SHOUTED_WORDS:
        return text
    words = [word for word in words if not _ADDRESS.search(word)]
    letters = "".join(words)
    capitals, small = sum(map(str.isupper, letters)), sum(map(str.islower, letters))
    if sum(map(_is_shouted, words)) < _MIN_SHOUTED_WORDS or capitals < _MIN_SHOUTED_SHARE * (capitals + small):
        return text
    return re.sub(r"\S+", lambda piece: piece[0] if _ADDRESS.search(piece[0]) else piece[0].lower(), text)


def _lowered_around_placeholders(text: str) -> str:
    parts = re.split(f"({_PLACEHOLDER})", text)
    return "".join(part if number % 2 else part.lower() for number, part in enumerate(parts))
