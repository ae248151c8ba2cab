"""Find keys and tokens by the prefixes that their issuers document, private keys, and what follows "password:".

A key proves itself by its form. A password has none, so it is taken after a word for it and a sign, or "is", and only
if a digit in it tells it from a word: `password: str`, `Passwort: vergessen` stay.
"""

import re
from collections.abc import Iterator

from assay.personal_data.folding import context_words, read_patterns, read_rows

_WORDS, _ANY_PLACE = (context_words(kind).replace(" ", "[ ]") for kind in ("password", "password_any_place"))
_FORMS = read_rows("secret_keys.csv")
_PATTERNS = read_patterns(
    "secret_values",
    words=_WORDS,
    words_any_place=_ANY_PLACE,
    key_gates="|".join(row["gate"] for row in _FORMS if row["gate"]),
    key_forms=" | ".join(row["form"] for row in _FORMS),
)
KEY_GATE, PASSWORD_GATE = _PATTERNS["key_gate"], _PATTERNS["password_gate"]
"""Rust's regular expressions of the texts that are worth a look; the second, if they have a digit."""
_KEY, _ASSIGNED, _CODE, _NAME = (re.compile(_PATTERNS[name]) for name in ("key", "assigned", "code", "name"))


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
