"""Find phone numbers in a text by how people of many countries write them, and by the words before them.

A phone number proves nothing: no check digit, and hardly a form. So what counts is how it is written:

1. with a country code (`+44 (0)20 7946 0958`, `0049-30-123456`), of a length that the country has;
2. as in North America (`(415) 555-0132`), or with a trunk 0, as in most of the world (`020 7946 0958`);
3. in the groups of a few other countries (`98765 43210`, `612 34 56 78`, `(11) 96123-4567`);
4. without any separator, ten to thirteen digits that begin as phone numbers do (`4155550132`, `9876543210`);
5. otherwise after a word such as "call" or "Telefon", any seven to fifteen digits.

What follows a word for another number ("order no.", "ISBN", "account") stays, unless it begins with `+`. So do
dates, and numbers inside longer ones.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from assay.personal_data.folding import read_patterns

_RE = {name: re.compile(pattern) for name, pattern in read_patterns("phone_numbers").items()}
_MAX_GROUPS = 8
_MIN_DIGITS = 7
_MAX_CHARACTERS = 30
_CONTEXT_CHARACTERS = 40


def phone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where phone numbers begin and end in a text, extension included, from left to right."""
    at = 0
    while start := _RE["start"].search(text, at):
        at = start.start()
        end = _end_of_number(text, at)
        if end is None:
            at += 1
        else:
            yield at, end
            at = end


def key_of(number: str) -> str:
    """What two ways to write one number have in common: its last nine digits, and its extension."""
    extension = _RE["extension"].search(number)
    main = number[: extension.start()] if extension else number
    letters = re.sub("[^0-9A-Z]", "", main)
    return f"{letters[-9:]}x{re.sub('[^0-9]', '', extension.group())}" if extension else letters[-9:]


def follows_other_number(before: str) -> bool:
    """Whether what stands before a number ends in words for a number that is no phone number, such as "order no."."""
    return _RE["after_other_number"].search(before[-_CONTEXT_CHARACTERS:]) is not None


def _end_of_number(text: str, at: int) -> int | None:
    """Where the phone number ends that begins at `at`; None if none does."""
    end = _longest(text, at, _RE["international"], _is_international) if text[at] in "+(0" else None
    if end and "+" in text[at : at + 2]:
        return end
    end = end or next(
        (
            end
            for shape in ("american", "other", "bare")
            if (match := _RE[shape].match(text, at)) and (end := _whole(text, match.end()))
        ),
        None,
    )
    if end is None and text[at] in "(0" and not _RE["pairs"].match(text, at):
        end = _longest(text, at, _RE["trunk"], _is_national)
    before = text[max(0, at - _CONTEXT_CHARACTERS) : at]
    if before[-1:].isalpha() and before[-1:] < "\u02b0" and not _RE["after_phone"].search(before):
        return None
    has_words = re.search(r"[^\W\d_]", before) is not None
    if end is None and has_words and _RE["after_phone"].search(before):
        end = _longest(text, at, _RE["any"], _is_long_enough)
    if end is None or _RE["date"].match(text, at) or _RE["years"].match(text, at):
        return None
    if has_words and (_RE["after_other_number"].search(before) or _RE["after_card"].search(before)):
        return None
    if _RE["fours"].fullmatch(text, at, end) and _RE["after_four"].search(before):
        return None  # the rest of a card number whose check digit is wrong
    return end


def _longest(text: str, at: int, first: re.Pattern[str], accepts: Callable[[Sequence[str]], bool]) -> int | None:
    """The end of the longest run of groups of digits that is accepted, the first of which looks as `first`."""
    match = first.match(text, at)
    groups: list[str] = []
    ends: list[int] = []
    while match and len(groups) < _MAX_GROUPS and match.end() - at < _MAX_CHARACTERS:
        groups.append(match.group())
        ends.append(match.end())
        match = _RE["group"].match(text, match.end())
    while groups and ends[-1] - at >= _MIN_DIGITS:
        if accepts(groups) and (end := _whole(text, ends[-1])):
            return end
        groups.pop()
        ends.pop()
    return None


def _whole(text: str, end: int) -> int | None:
    """The end with what belongs to it; None if a number or a word goes on there."""
    if extension := _RE["extension"].match(text, end):
        return extension.end()
    return end if _RE["end"].match(text, end) else None


def _is_international(groups: Sequence[str]) -> bool:
    if len(groups) > 1 and (len(_digits(groups[-1:])) < 2 or len(_digits(groups[:1])) > 9):
        return False
    digits = _digits([group for group in groups if _digits([group]) != "0"])
    digits = digits.removeprefix("011") if groups[0].startswith("011") else digits.removeprefix("00")
    import phonenumbers  # a quarter of a second to import

    try:
        number = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        return False
    fewest, most = _usual_digits(number.country_code)
    written = digits.removeprefix(str(number.country_code))
    fewest -= written.startswith("2") and number.country_code == 44  # Cardiff and Belfast, often one short
    return fewest <= len(written) <= most or phonenumbers.is_valid_number(number)


@cache
def _usual_digits(country_code: int) -> tuple[int, int]:
    """How many digits landline and mobile numbers of a country have; Faker's, and mistyped ones, have them as well."""
    import phonenumbers

    region = phonenumbers.region_code_for_country_code(country_code)
    kinds = (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE)
    examples = [number for kind in kinds if (number := phonenumbers.example_number_for_type(region, kind))]
    lengths = [len(phonenumbers.national_significant_number(number)) for number in examples] or [0]
    return min(lengths), max(lengths)


def _is_national(groups: Sequence[str]) -> bool:
    digits, first = _digits(groups), _digits(groups[:1])
    if len(groups) < 2 or len(digits) < 8 or (first[:2] == "00" and (len(first) < 5 or len(digits) < 10)):
        return False
    gaps = [re.sub("[0-9()]", "", group).strip(_RE["space"].pattern) for group in groups[1:]]
    if len(set(gaps)) == 1 and len(first) == 2 and all(len(_digits([group])) == 2 for group in groups):
        return len(digits) == 10  # France: pairs
    fewest = 8 if len(gaps) > 1 and gaps[0] != gaps[1] else 9
    most = 14 if first in ("0700", "0800", "0900") else 13 if groups[0][0] == "(" or gaps[0] == "/" else 12
    if not fewest <= len(digits) <= most:
        return False
    return (
        gaps.count("/") < 2
        and len(set(gaps[1:])) < 2
        and all(len(_digits([group])) > 1 for group in groups[2:])
        and _RE["zip_code"].fullmatch("".join(groups)) is None
    )


def _is_long_enough(groups: Sequence[str]) -> bool:
    number = "".join(groups)
    return 7 <= len(_digits(groups)) <= 15 and number.count("/") < 2 and not _RE["decimal"].fullmatch(number)


def _digits(groups: Sequence[str]) -> str:
    return re.sub("[^0-9]+", "", "".join(groups))
