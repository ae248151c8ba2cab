"""Find keys and tokens by the prefixes that their issuers document, private keys, and what follows "password:".

A key proves itself by its form. A password has none, so it is taken after a word for it and a sign, or "is", and only
if a digit in it tells it from a word: `password: str`, `Passwort: vergessen` stay.
"""

import re
from collections.abc import Iterator

from assay.personal_data.folding import context_words, read_rows

_NAMES, _ANY_PLACE = (context_words(kind).replace(" ", "[ ]") for kind in ("password", "password_any_place"))
_FORMS = read_rows("secret_keys.csv")
KEY_GATE = "|".join(["PRIVATE KEY", *(row["gate"] for row in _FORMS if row["gate"])])
PASSWORD_GATE = f"(?i):AA|bearer|{_NAMES}|{_ANY_PLACE}|(?:key|token|secret)[\"']?\\s?[:=\uff1a]"
"""Rust's regular expressions of the texts that are worth a look; the second, if they have a digit.

Of what `secret_keys.csv` gives no gate, the second has it."""
_KEY = re.compile(
    rf"""(?ax) (?<![0-9A-Za-z]) (?: {" | ".join(row["form"] for row in _FORMS)} ) (?! [0-9A-Za-z] )
    | -----BEGIN [ A-Z]{{0,30}} PRIVATE\ KEY (?:\ BLOCK)? -----
      (?: (?: [^\-] | - (?!----) )*+ -----END [ A-Z]{{0,30}} PRIVATE\ KEY (?:\ BLOCK)? -----
        | (?: (?: \s | \\n )*+ [0-9A-Za-z+/=]{{16,}} )++ )"""
)
_KEY_NAMES = (
    r"(?:api|secret|access|account|auth|private|shared)[_\- ]?(?:access[_\-]?)?(?:key|token|secret)|token"
    r"|client_secret|(?<!:)secret"
)
_BETWEEN = "שלי|שלך|הוא|היא|هو|هي|है|это|такой|был"
_ASSIGNED = re.compile(
    rf"""(?xi) (?: (?<![0-9A-Za-z]) (?:[a-z0-9]{{1,30}}_)?
        (?: {_NAMES} | (?P<token> {_KEY_NAMES} ) ) ["'»]?
        (?: \s? (?: [:=\uff1a→] | [=-]> ) \s? | >
          | \s (?: μου \s )? (?: is | was | to | ist | lautet | war | est | es | é | è | jest | είναι ) \s )
      | (?: {_ANY_PLACE} ) ["'»]?+ (?: [\s:=\uff1a→>–\-は是为為은는이가คือ] | {_BETWEEN} ){{0,8}}+ )
    (?! <[A-Z_]+ (?:_[0-9]+)? > ) ["'«„“「『(\[<]?+
    (?P<value> (?! [/<{{] | https?: | %\( | %[sd] (?![0-9a-z]) | \$\{{ | \$\( [a-z_]+ \) | \$[a-z_]++ (?![0-9a-z]) )
      (?: [!#-&(-+\-./0-:=?-~À-ɏ] | [,;] (?= [0-9A-Za-z] ) ){{4,128}} )"""
)
_CODE = re.compile(
    r"(?i)[a-z_.]{3,}[(\[{].*[)\]}]|[a-z]\w*\.\w+\(|[0-9]+\.[0-9]+\Z|(?:os|self|config|settings|process|env)\.|[*.x]+\Z"
)

_NAME = re.compile(r"(?:[a-z]+[0-9]{0,2}[_.\-])+[a-z]+[0-9]{0,2}[a-z]*|(?:[A-Z][a-z]{2,}[0-9]?){2,}")
"""What a program calls a thing, such as `s3_secret_key`."""


def secret_values(text: str) -> Iterator[tuple[int, int, str]]:
    """Where secrets begin and end in a text, and their spelling, from left to right."""
    end = 0
    keys = ((*match.span(), match.group()) for match in _KEY.finditer(text))
    for start, after, value in sorted([*keys, *_assigned(text)]):
        if start >= end:
            yield start, after, value
            end = after


def _assigned(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _ASSIGNED.finditer(text):
        start, value = match.start("value"), match["value"].rstrip(".?")
        if value[-1:] in (")", "]", "}") and re.search(r"[(\[{]", text[max(0, start - 60) : start]):
            value = value[:-1]
        elif text[start - 1] in "([":  # nothing closes it
            start, value = start - 1, text[start - 1] + value
        if match["token"]:
            value = re.sub(r"(?a)[^\w.~+/=\-].*", "", value)
        value = re.sub(r"&\w+=.*", "", value)  # the next part of an address
        if len(value) < (8 if match["token"] else 4) or not re.search("[0-9]", value) or _CODE.match(value):
            continue
        if not (match["token"] and (_NAME.fullmatch(value) or re.fullmatch("[^0-9]*|[^A-Za-z]*", value))):
            yield start, start + len(value), value
