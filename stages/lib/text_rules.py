"""The cleaning rules: each a named function from a text column to a text column, in Polars expressions.

A rule's name is what `clean.rules` in params.yaml says, and the reason that people find in `changed.parquet`. To add
one: write the function, put it into `RULES`, and name it in params.yaml. Every rule leaves a null null, and applied
twice does what it does applied once.
"""

import html
import re
from collections.abc import Callable

import polars as pl

INVISIBLE = "[\u00ad\u200b\u2060\ufeff]"
"""Soft hyphen, zero-width space, word joiner, byte-order mark. Not the zero-width joiner and non-joiner: they carry
meaning in emoji, in Persian and in the scripts of India."""

BREAKING_CONTROLS = r"[\x0b\x0c\x1c-\x1f\x85]"
CONTROLS = r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]"
"""Category Cc without white space, and the marks that turn the direction of writing."""

ENTITY = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
BLOCK_ELEMENTS = (
    "address|article|aside|blockquote|body|br|caption|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|"
    "h[1-6]|head|header|hr|html|legend|li|main|nav|ol|optgroup|option|p|pre|section|select|summary|table|tbody|td|"
    "textarea|tfoot|th|thead|title|tr|ul"
)
INLINE_ELEMENTS = (
    "a|abbr|acronym|audio|b|base|bdi|bdo|big|button|canvas|cite|code|col|colgroup|data|datalist|del|details|dfn|dialog|"
    "em|embed|font|frame|frameset|i|iframe|img|input|ins|kbd|label|link|map|mark|meta|meter|nobr|noscript|object|output|"
    "param|picture|progress|q|rp|rt|ruby|s|samp|script|small|source|span|strike|strong|style|sub|sup|svg|template|time|"
    "track|tt|u|var|video|wbr"
)
BARE_ATTRIBUTES = (
    "allowfullscreen|async|autofocus|autoplay|checked|controls|default|defer|disabled|hidden|loop|multiple|muted|"
    "noshade|nowrap|open|readonly|required|reversed|selected"
)
ATTRIBUTES = (
    r"(?:\s+(?:[A-Za-z_:@][\w:.\-]*\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>=`]+)|(?:" + BARE_ATTRIBUTES + r")\b))*\s*/?"
)
BLOCK_TAG = rf"(?i)</?(?:{BLOCK_ELEMENTS})(?:{ATTRIBUTES})>"
INLINE_TAG = rf"(?i)</?(?:{INLINE_ELEMENTS})(?:{ATTRIBUTES})>"
UNSHOWN = rf"(?is)<!--.*?-->|<script(?:{ATTRIBUTES})>.*?</script\s*>|<style(?:{ATTRIBUTES})>.*?</style\s*>"
MARKUP = rf"{ENTITY}|<!--|{BLOCK_TAG}|{INLINE_TAG}"

EMAIL = r"[\p{L}\p{N}][\p{L}\p{N}._%+\-]*@(?:[\p{L}\p{N}](?:[\p{L}\p{N}\-]*[\p{L}\p{N}])?\.)+\p{L}{2,}\b"

URL_TAIL = r"[^\s<>\"]*[^\s<>\"'.,;:!?)\]}…]"
URL = (
    rf"(?i)\b(?:https?|ftp)://{URL_TAIL}|\bwww\.{URL_TAIL}"
    # An address without its scheme is one when a path follows: bit.ly/x1, but not amazon.com, a name in a sentence.
    rf"|\b(?:[a-z0-9][a-z0-9\-]*\.)+(?:com|org|net|edu|gov|info|io|ly|me|gl|gd|co|fm|tv|cc|us|uk|de|fr|eu|ca|au|jp)/{URL_TAIL}"
)

PHONE = "|".join(
    [
        # +44 20 7946 0958, +1 (415) 555-0132
        r"\+[1-9][0-9]{0,2}[ .\-]?(?:\([0-9]{1,4}\)[ .\-]?)?[0-9]{2,4}(?:[ .\-]?[0-9]{2,4}){1,4}\b",
        # (415) 555-0132, 415-555-0132, 1-800-555-0132, 415.555.0132, 415 555 0132
        r"(?:1[ .\-])?(?:\([2-9][0-9]{2}\)[ .\-]?|[2-9][0-9]{2}-)[2-9][0-9]{2}[ .\-][0-9]{4}\b",
        r"(?:1\.)?[2-9][0-9]{2}\.[2-9][0-9]{2}\.[0-9]{4}\b",
        r"(?:1 )?[2-9][0-9]{2} [2-9][0-9]{2} [0-9]{4}\b",
        # 1-800-FLOWERS
        r"1-8(?:00|33|44|55|66|77|88)-[A-Z0-9]{3}-?[A-Z0-9]{4}\b",
        # 020 7946 0958, 030/1234567, 01632 960123: a national number starts with 0
        r"0[1-9][0-9]{1,3}[ /\-][0-9]{3,4}[ \-]?[0-9]{3,4}\b",
    ]
)
BEFORE_PHONE = r"(^|[^\p{L}\p{N}_.+$€£#/\-])"
"""What may stand before a phone number; a price, a part number, a longer number may not begin there."""


def repair_unicode(text: pl.Expr) -> pl.Expr:
    """Compose characters (Unicode NFC), and take out characters that have neither width nor meaning."""
    return text.str.replace_all(INVISIBLE, "").str.normalize("NFC")


def html_to_text(text: pl.Expr) -> pl.Expr:
    """Take HTML's tags, comments and scripts out, and put characters for its entities, escaped twice as well.

    Only the elements of HTML are tags, and only with well-formed attributes; so `<3`, `a < b`, `<-`, `<user>` and
    `a <b and c> d` stay. A parser would recover from those as a browser does, by eating them. Entities must end in a
    semicolon: `?a=1&copy=2` stays. What the markup hid is then repaired as by `repair_unicode`.
    """
    return text.map_batches(_html_to_text, return_dtype=pl.String)


def _html_to_text(texts: pl.Series) -> pl.Series:
    """`html_to_text`, in Python, of the few texts that have markup."""
    rows = texts.str.contains(MARKUP).fill_null(False).arg_true()
    if not len(rows):
        return texts
    plain = pl.Series([_without_markup(text) for text in texts.gather(rows)], dtype=pl.String)
    plain = pl.DataFrame({"text": plain}).select(repair_unicode(pl.col("text"))).to_series()
    return texts.scatter(rows, plain)


def _without_markup(text: str) -> str:
    """One text without markup; each round undoes one escaping, and the text only ever gets shorter."""
    previous = None
    while text != previous:
        previous = text
        text = re.sub(UNSHOWN, " ", text)
        text = re.sub(BLOCK_TAG, " ", text)
        text = re.sub(INLINE_TAG, "", text)
        text = re.sub(ENTITY, lambda entity: html.unescape(entity.group()), text)
    return text


def remove_control_characters(text: pl.Expr) -> pl.Expr:
    """Take control characters out; those that separate lines or fields become a space. Tab and line ends stay."""
    return text.str.replace_all(BREAKING_CONTROLS, " ").str.replace_all(CONTROLS, "")


def redact_email(text: pl.Expr) -> pl.Expr:
    """`<EMAIL>` for every e-mail address."""
    return text.str.replace_all(EMAIL, "<EMAIL>")


def redact_url(text: pl.Expr) -> pl.Expr:
    """`<URL>` for every address with a scheme, with `www.`, or with a path; punctuation after it stays."""
    return text.str.replace_all(URL, "<URL>")


def redact_phone(text: pl.Expr) -> pl.Expr:
    """`<PHONE>` for every phone number that is written as one: international, North American, or national from 0.

    A number of seven digits without an area code stays: nothing tells it from a range or a part number.
    """
    return text.str.replace_all(f"{BEFORE_PHONE}(?:{PHONE})", "${1}<PHONE>")


def collapse_white_space(text: pl.Expr) -> pl.Expr:
    """One space for every run of white space of any kind, none at the ends."""
    return text.str.replace_all(r"\s+", " ").str.strip_chars()


RULES: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "repair_unicode": repair_unicode,
    "html_to_text": html_to_text,
    "remove_control_characters": remove_control_characters,
    "redact_email": redact_email,
    "redact_url": redact_url,
    "redact_phone": redact_phone,
    "collapse_white_space": collapse_white_space,
}
"""The rules by name."""
