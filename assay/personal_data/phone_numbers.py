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

_SPACE = " \u00a0\u2009\u202f"
_DASH = "\\-\u2010\u2011\u2012\u2013"
_SEPARATOR = rf"(?:\.|[{_SPACE}]{{0,2}}[{_DASH}/][{_SPACE}]?|[{_SPACE}]{{1,2}})"

_START = re.compile(
    r"(?<![\w+$€£¥₹#])(?<![0-9][.:\-])"
    # A sign, or two digits soon; and seven digits not far from each other.
    r"(?:\(?\+|\(?(?=[0-9]{2})|(?=[0-9][^0-9A-Za-z]{1,3}[0-9]{3}))"
    r"(?=[^0-9A-Za-z]?[0-9](?:[^0-9A-Za-z]{0,4}[0-9]){6}|1-8)"
)
_END = re.compile(rf"(?!\w|[{_DASH}.][0-9]|[€$£%°]|[{_SPACE}]€)(?!(?<![0-9]{{3}}):[0-9])")
_EXTENSION = re.compile(
    rf"(?i)[{_SPACE},;]{{0,2}}(?:ext(?:ension|n)?|x|durchwahl|dw|poste|interno|ramal|anexo)"
    rf"[.:={_SPACE}]{{0,2}}[0-9]{{1,6}}(?!\w)"
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

_CODES = """
    1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84
    86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236
    237 238 239 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265
    266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378
    379 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595
    596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 800 808 850
    852 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976
    977 979 992 993 994 995 996 998
"""
_LENGTHS = """
    1:11-11 7:11-11 31:9-11 32:10-11 33:11-11 34:11-11 39:8-13 41:11-11 43:8-15 44:11-12 46:9-12 48:11-11
    49:8-15 55:11-13 61:8-12 81:11-12 86:11-13 91:11-14 354:10-10 372:10-11 500:8-8
"""
_DIGITS_WITH_CODE: dict[str, tuple[int, int]] = dict.fromkeys(_CODES.split(), (9, 14)) | {
    code: (int(least), int(most)) for code, least, most in re.findall("([0-9]+):([0-9]+)-([0-9]+)", _LENGTHS)
}
"""Country codes, and the least and most digits that a number with it has, code included."""

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
      | [0-9]{{3}} [{_SPACE}]?[{_DASH}][{_SPACE}]? [0-9]{{3}} [{_SPACE}]?[{_DASH}{_SPACE}.][{_SPACE}]? [0-9]{{4}}
      | [2-9][0-9]{{2}} [{_DASH}] [2-9][0-9]{{6}}
      | [2-9][0-9]{{2}} [./] [2-9][0-9]{{2}} [.{_DASH}] [0-9]{{4}}
      | {_NOT_AFTER_LIST} [2-9][0-9]{{2}} [{_SPACE}] [2-9][0-9]{{2}} [{_SPACE}{_DASH}] [0-9]{{4}}
    ) (?![0-9])
    | 1 [{_DASH}] 8(?:00|33|44|55|66|77|88) [{_DASH}] [A-Z0-9]{{3}} [{_DASH}]? [A-Z0-9]{{4}} \b   # 1-800-FLOWERS
    """
)
"""North America; its (415) 555-0132 with any digits, since 123-456-7890 is what people make up."""
_OTHER = re.compile(
    rf"""(?x) (?:
      {_NOT_AFTER_LIST} [6-9][0-9]{{4}} [{_SPACE}{_DASH}] [0-9]{{5}}                                    # India
    | {_NOT_AFTER_LIST} [6-9][0-9]{{2}} ([{_SPACE}{_DASH}]) [0-9]{{2}} \1 [0-9]{{2}} \1 [0-9]{{2}}      # Spain
    | {_NOT_AFTER_LIST} 1[38]00 [{_SPACE}{_DASH}] [0-9]{{2,3}} [{_SPACE}{_DASH}] [0-9]{{3,4}}     # Australia, India
    | {_NOT_AFTER_LIST} 1[3-9][0-9] ([{_SPACE}{_DASH}]) [0-9]{{4}} \2 [0-9]{{4}}                        # China
    | \( [1-9][0-9] \) {_SEPARATOR}? 9?[0-9]{{4}} [{_DASH}{_SPACE}] [0-9]{{4}}                          # Brazil
    | {_NOT_AFTER_LIST} (?!..[{_SPACE}]{_YEAR}-{_YEAR}) [1-9][0-9] [{_SPACE}] 9?[0-9]{{4}} [{_DASH}] [0-9]{{4}}
    ) (?![0-9])"""
)
_BARE = re.compile(
    r"""(?x) (?<![/=?&#]) (?! ([0-9])\1{8} | 214748364[78] | 429496729[56] )
    (?: [2-9][0-9]{9}                  # an area code and a number; not a time stamp, which begins with 1
      | 1[2-9][0-9]{2}[2-9][0-9]{6}    # the same with the country code
      | 1[3-9][0-9]{9}                 # China
      | 0[1-9][0-9]{8,9} | 01[567][0-9]{9,10} | 00[1-9][0-9]{8,12}
      | 91[6-9][0-9]{9} | 447[0-9]{9}
    ) (?![0-9])"""
)
_SHAPES = (_AMERICAN, _OTHER, _BARE)
_NO_DIGITS = re.compile("[^0-9]+")
_LETTER = re.compile(r"[^\W\d_]")
_WORDS_BETWEEN = r"numbers?|numéro|nummer|número|numero|num|nos?|nr|n[°º]|is|was|ist|est|es"
_OTHER_NUMBERS = r"""
    order invoice ticket case ref\.? reference tracking serial isbn issn ean upc gtin asin sku item part model
    product account acct\.? a/c iban routing sort policy contract customer client confirmation booking reservation
    transaction txn receipt bill claim membership member licen[cs]e passport vin imei po rma version build id ids
    uuid timestamp epoch tweet status zip batch lot bug issue commit doi pmid vat tax barcode konto kontonummer
    kunde kundennummer bestellung bestellnummer bestellnr rechnung rechnungsnummer artikel artikelnummer sendung
    sendungsnummer auftrag auftragsnummer vertrag commande facture compte dossier colis pedido factura cuenta
    cliente ordine fattura conto
"""
_PHONES = r"""
    call dial phones? telephone tel tél téléphone telefon telefonnummer telefono teléfono telefone fon mobile mobil
    mob cell cellphone cellular handy handynummer fax whatsapp sms text ring reach contact hotline helpline landline
    rufnummer my\snumber portable móvil celular cellulare cel ph appelez ruf rufen anrufen
"""
_NO_LETTER_BEFORE = r"(?i)(?<![^\W_])"
_BETWEEN_NUMBER = rf"(?:[\s:=#_\"'(\[\-]|(?:{_WORDS_BETWEEN}|id|code|reference)\.?)*\Z"
_BETWEEN_PHONE = (
    rf"(?:[\s:=.,_\"'(<\[\-]|{_WORDS_BETWEEN}|my|our|the|us|me|him|her|them|at|on|now|or|via|by|to|back|direct|toll|free|"
    r"home|work|office|auf|unter|au|al|sie|mich)*\Z"
)
_AFTER_OTHER_NUMBER = re.compile(f"{_NO_LETTER_BEFORE}(?:{'|'.join(_OTHER_NUMBERS.split())})s?{_BETWEEN_NUMBER}")
_AFTER_CARD = re.compile(f"{_NO_LETTER_BEFORE}(?:card|pin|code){_BETWEEN_NUMBER}")
_AFTER_PHONE = re.compile(f"{_NO_LETTER_BEFORE}(?:{'|'.join(_PHONES.split())}){_BETWEEN_PHONE}")
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
    if end is None and text[at] in "(0":
        end = _longest(text, at, _TRUNK, _is_national)
    before = text[max(0, at - _CONTEXT_CHARACTERS) : at]
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
    code = next((digits[:length] for length in (1, 2, 3) if digits[:length] in _DIGITS_WITH_CODE), None)
    if code is None or digits.startswith("00", len(code)):
        return False
    fewest, most = _DIGITS_WITH_CODE[code]
    return fewest <= len(digits) <= most


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
