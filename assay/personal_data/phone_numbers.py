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

from assay.personal_data.folding import LATIN, SPACELESS, WORD_START, context_words

_SPACE = " \u00a0\u2009\u202f"
_DASH = "\\-\u2010\u2011\u2012\u2013"
_SEPARATOR = rf"(?:\.|[{_SPACE}]{{0,2}}[{_DASH}/][{_SPACE}]?|[{_SPACE}]{{1,2}})"

_START = re.compile(
    rf"(?=[0-9+(])(?:(?<![{LATIN}+$€£¥₹#])(?<![0-9][.:\-])|(?<=[A-Za-z])(?<![0-9][A-Za-z]))"
    # A sign, or two digits soon; and seven digits not far from each other.
    r"(?:\(?\+|\(?(?=[0-9]{2})|(?=[0-9][^0-9A-Za-z]{1,3}[0-9]{3}))"
    r"(?=[^0-9A-Za-z]?[0-9](?:[^0-9A-Za-z]{0,4}[0-9]){6}|1-8)"
)
_END = re.compile(
    rf"(?!(?![A-Z][a-z]{{2}})[{LATIN}]|[{_DASH}.][0-9]|[{_SPACE}]?[€元圆円원₽]|[$£%°])(?!(?<![0-9]{{3}}):[0-9])"
)
_EXTENSION = re.compile(
    rf"(?i)[{_SPACE},;]{{0,2}}(?:ext(?:ension|n)?|x|durchwahl|dw|poste|interno|ramal|anexo)"
    rf"[.:={_SPACE}]{{0,2}}[0-9]{{1,6}}(?![{LATIN}])"
)
_DATE = re.compile(
    r"[0-9]{1,2}([./\-])[0-9]{1,2}\1(?:19|20)?[0-9]{2}(?![0-9]|\1[0-9])"
    r"|(?:19|20)[0-9]{2}([./\-])[0-9]{1,2}\2[0-9]{1,2}(?![0-9])"
)
_YEAR = "(?:1[5-9]|20)[0-9]{2}"
_YEARS = re.compile(rf"{_YEAR}[{_SPACE}]?[{_DASH}/][{_SPACE}]?{_YEAR}(?![0-9])")
_DECIMAL = re.compile(r"[0-9]{1,3}\.[0-9]{4,}")
_FOURS = re.compile(rf"[0-9]{{4}}(?:[{_SPACE}{_DASH}][0-9]{{4}})+")
_AFTER_FOUR = re.compile(rf"(?<![0-9])[0-9]{{4}}[{_SPACE}{_DASH}]\Z")
_ZIP_CODE = re.compile(r"[0-9]{5}-[0-9]{4}(?![0-9])")
_PAIRS = re.compile(
    rf"0[0-9](?:[{_SPACE}][0-9]{{2}}){{5}}(?![0-9A-Za-z])"
    rf"|(?<=(?<![0-9])[0-9]{{2}}[{_SPACE}])0[0-9](?:[{_SPACE}][0-9]{{2}}){{4}}(?![0-9])"
)
"""More than five, such as numbers that were drawn; French phone numbers have five."""

_INTERNATIONAL = re.compile(
    rf"\((?:\+|00)[1-9][0-9]{{0,2}}\)"
    rf"|(?:\+|00[{_SPACE}]?|011[{_SPACE}{_DASH}])(?:\([1-9][0-9]{{0,2}}\)|[1-9][0-9]{{0,14}}(?![0-9]))"
)
_TRUNK_CODE = "0(?:[1-9][0-9]{0,4}|0[0-9]{3,4})"
_TRUNK = re.compile(rf"(?<![0-9]/)(?:\({_TRUNK_CODE}\)|{_TRUNK_CODE}(?![0-9])|0(?=[{_SPACE}][89][0-9]{{2}}[{_SPACE}]))")
_ANY = re.compile(r"\([0-9]{1,5}\)|[0-9]{1,15}(?![0-9])")
_GROUP = re.compile(rf"{_SEPARATOR}?\([0-9]{{1,5}}\)|(?:{_SEPARATOR}|(?<=\)))[0-9]{{1,15}}(?![0-9])")
_MAX_GROUPS = 8
_MIN_DIGITS = 7
_MAX_CHARACTERS = 30
_NOT_AFTER_LIST = rf"(?<![0-9][,/])(?<![0-9]{{3}}[{_SPACE}])"

_AMERICAN = re.compile(
    rf"""(?x)
    (?: {_NOT_AFTER_LIST} 1 [{_SPACE}.{_DASH}] | 1 (?=\() )?
    (?: \([0-9]{{3}}\) (?:{_SEPARATOR})? [0-9]{{3}} (?:{_SEPARATOR})? [0-9]{{4}}
      | (?: [2-9][0-9]{{2}} [{_SPACE}]?[{_DASH}][{_SPACE}]? [2-9][0-9]{{2}} | 123-456(?=-7890) )
        [{_SPACE}]?[{_DASH}{_SPACE}.][{_SPACE}]? [0-9]{{4}}
      | [2-9][0-9]{{2}} [{_DASH}] [2-9][0-9]{{6}}
      | [2-9][0-9]{{2}} (?: \. [2-9][0-9]{{2}} \. | / [2-9][0-9]{{2}} [.{_DASH}] ) [0-9]{{4}}
      | {_NOT_AFTER_LIST} [2-9][0-9]{{2}} [{_SPACE}] [2-9][0-9]{{2}} [{_SPACE}{_DASH}] [0-9]{{4}}
    ) (?![0-9])
    | 1 [{_DASH}] 8(?:00|33|44|55|66|77|88) [{_DASH}] [A-Z0-9]{{3}} [{_DASH}]? [A-Z0-9]{{4}} \b   # 1-800-FLOWERS
    """
)
"""North America, whose codes and exchanges begin with 2 to 9, and 123-456-7890, which people make up."""
_OTHER = re.compile(
    rf"""(?x) (?:
      {_NOT_AFTER_LIST} [6-9][0-9]{{4}} [{_SPACE}{_DASH}] [0-9]{{5}}                                    # India
    | {_NOT_AFTER_LIST} [6-9][0-9]{{2}} ([{_SPACE}{_DASH}]) [0-9]{{2}} \1 [0-9]{{2}} \1 [0-9]{{2}}      # Spain
    | {_NOT_AFTER_LIST} 1[38]00 [{_SPACE}{_DASH}] [0-9]{{2,3}} [{_SPACE}{_DASH}] [0-9]{{3,4}}     # Australia, India
    | {_NOT_AFTER_LIST} 1[3-9][0-9] ([{_SPACE}{_DASH}]) [0-9]{{4}} \2 [0-9]{{4}}                        # China
    | [78] [{_SPACE}{_DASH}]? (?: [3489][0-9]{{2}} | \([3489][0-9]{{2}}\) ) [{_SPACE}{_DASH}]? [0-9]{{3}}
        [{_SPACE}{_DASH}]? [0-9]{{2}} [{_SPACE}{_DASH}]? [0-9]{{2}}                                       # Russia
    | {_NOT_AFTER_LIST} (?: (?: 21 | 33 | 5[56] | 81 ) [{_SPACE}] [0-9]{{4}}
        | (?: 2[0-9]{{2}} | 3[2-9][0-9] | 69[0-9] ) (?: [{_SPACE}] [0-9]{{3}} | - [0-9]{{3}} (?=[0-9]) ) )
        [{_SPACE}]? [0-9]{{4}}                                                            # Greece, Italy, Mexico
    | {_NOT_AFTER_LIST} (?: 400 | 800 ) ([{_DASH}]) [0-9]{{3}} \3 [0-9]{{4}}                              # China
    | {_NOT_AFTER_LIST} 0 ([{_SPACE}{_DASH}]) [2-9][0-9]{{3}} \4 [0-9]{{4}}                                   # Thailand
    | 0[0-9]{{1,2}} \) [{_SPACE}]? [0-9]{{3,4}} - [0-9]{{4}}                                               # Korea
    | \( [1-9][0-9] \) {_SEPARATOR}? 9?[0-9]{{4}} [{_DASH}{_SPACE}] [0-9]{{4}}                          # Brazil
    | {_NOT_AFTER_LIST} (?!..[{_SPACE}]{_YEAR}-{_YEAR}) [1-9][0-9] [{_SPACE}] 9?[0-9]{{4}} [{_DASH}] [0-9]{{4}}
    ) (?![0-9])"""
)
_BARE = re.compile(
    r"""(?x) (?<![/=?&#]) (?! ([0-9])\1{8} | 0123456789 | 214748364[78] | 429496729[56] )
    (?: [2-9][0-9]{9}                  # an area code and a number; not a time stamp, which begins with 1
      | 1[2-9][0-9]{2}[2-9][0-9]{6}    # the same with the country code
      | 1[3-9][0-9]{9}                 # China
      | 8[3489][0-9]{9}                # Russia
      | 0[2-9][0-9]{7} | 0[1-9][0-9]{8,9} | 01[567][0-9]{9,10} | 00[1-9][0-9]{8,12}
      | 91[6-9][0-9]{9} | 447[0-9]{9}
    ) (?![0-9])"""
)
_SHAPES = (_AMERICAN, _OTHER, _BARE)
_NO_DIGITS = re.compile("[^0-9]+")
_LETTER = re.compile(r"[^\W\d_]")
_WORDS_BETWEEN = r"numbers?|numéro|nummer|número|numero|num|nos?|nr|n[°º]|is|was|ist|est|es"
_BETWEEN_GLUED = (
    r"(?:[\s:\uff1a\uff0c=#№._\"'(<\[\-]|号|码|碼|號|番号|번호|为|是|は|は、|を|가|는|은|이|로|ที่|คือ|رقم|هو|على|מספר|הוא|номер\w*|"
    r"по|на|это|είναι|στο|αριθμός|नंबर|है|पर|no|numer|nr|pod)*\Z"
)
_BETWEEN_NUMBER = rf"(?:[\s:=#_\"'(\[\-]|(?:{_WORDS_BETWEEN}|id|code|reference)\.?)*\Z"
_BETWEEN_PHONE = (
    rf"(?:[\s:=.,_\"'(<\[\-]|{_WORDS_BETWEEN}|my|our|the|us|me|him|her|them|at|on|now|or|via|by|to|back|direct|toll|free|"
    r"home|work|office|kom|auf|unter|au|al|sie|mich)*\Z"
)


def _after(kind: str, between: str) -> re.Pattern[str]:
    """What ends in one of the words of a kind, and in nothing that matters between them and a number."""
    any_place = f"(?:(?<![^\\W_])|(?<=[{SPACELESS}]))(?:{context_words(f'{kind}_any_place')})"
    return re.compile(f"(?i){WORD_START}(?:{context_words(kind)})s?{between}|{any_place}{_BETWEEN_GLUED}")


_AFTER_OTHER_NUMBER = _after("other_number", _BETWEEN_NUMBER)
_AFTER_CARD = re.compile(f"(?i){WORD_START}(?:card|pin|code){_BETWEEN_NUMBER}")
_AFTER_PHONE = _after("phone", _BETWEEN_PHONE)
_CONTEXT_CHARACTERS = 40


def phone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where phone numbers begin and end in a text, extension included, from left to right."""
    at = 0
    while start := _START.search(text, at):
        at = start.start()
        end = _end_of_number(text, at)
        if end is None:
            at += 1
        else:
            yield at, end
            at = end


def key_of(number: str) -> str:
    """What two ways to write one number have in common: its last nine digits, and its extension."""
    extension = _EXTENSION.search(number)
    main = number[: extension.start()] if extension else number
    letters = re.sub("[^0-9A-Z]", "", main)
    return f"{letters[-9:]}x{re.sub('[^0-9]', '', extension.group())}" if extension else letters[-9:]


def follows_other_number(before: str) -> bool:
    """Whether what stands before a number ends in words for a number that is no phone number, such as "order no."."""
    return _AFTER_OTHER_NUMBER.search(before[-_CONTEXT_CHARACTERS:]) is not None


def _end_of_number(text: str, at: int) -> int | None:
    """Where the phone number ends that begins at `at`; None if none does."""
    end = _longest(text, at, _INTERNATIONAL, _is_international) if text[at] in "+(0" else None
    if end and "+" in text[at : at + 2]:
        return end
    end = end or next(
        (end for pattern in _SHAPES if (match := pattern.match(text, at)) and (end := _whole(text, match.end()))), None
    )
    if end is None and text[at] in "(0" and not _PAIRS.match(text, at):
        end = _longest(text, at, _TRUNK, _is_national)
    before = text[max(0, at - _CONTEXT_CHARACTERS) : at]
    if before[-1:].isalpha() and before[-1:] < "\u02b0" and not _AFTER_PHONE.search(before):
        return None
    has_words = _LETTER.search(before) is not None
    if end is None and has_words and _AFTER_PHONE.search(before):
        end = _longest(text, at, _ANY, _is_long_enough)
    if end is None or _DATE.match(text, at) or _YEARS.match(text, at):
        return None
    if has_words and (_AFTER_OTHER_NUMBER.search(before) or _AFTER_CARD.search(before)):
        return None
    if _FOURS.fullmatch(text, at, end) and _AFTER_FOUR.search(before):
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
        match = _GROUP.match(text, match.end())
    while groups and ends[-1] - at >= _MIN_DIGITS:
        if accepts(groups) and (end := _whole(text, ends[-1])):
            return end
        groups.pop()
        ends.pop()
    return None


def _whole(text: str, end: int) -> int | None:
    """The end with what belongs to it; None if a number or a word goes on there."""
    if extension := _EXTENSION.match(text, end):
        return extension.end()
    return end if _END.match(text, end) else None


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
    gaps = [re.sub("[0-9()]", "", group).strip(_SPACE) for group in groups[1:]]
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
        and _ZIP_CODE.fullmatch("".join(groups)) is None
    )


def _is_long_enough(groups: Sequence[str]) -> bool:
    number = "".join(groups)
    return 7 <= len(_digits(groups)) <= 15 and number.count("/") < 2 and not _DECIMAL.fullmatch(number)


def _digits(groups: Sequence[str]) -> str:
    return _NO_DIGITS.sub("", "".join(groups))
