"""Rules that remove what is not the text: damage, markup, invisible characters, quoted mail, signatures.

Order: `repair_mojibake` first, since a wrong decoding has turned one character into two or three, some of them control
characters, which the others would remove one by one; then the repair of characters, since an invisible one hides a tag;
then `html_to_text`, since markup hides everything else. `remove_quoted_replies` and `remove_signatures` need the lines
of the text, so they come after markup has become line ends and before white space is collapsed.
"""

import re
from collections.abc import Sequence

import ftfy
import polars as pl
from ftfy.badness import BADNESS_RE

from assay.cleaning.email_text import QUOTE_SIGNS, SIGNATURE_SIGNS, without_quotes, without_signature
from assay.cleaning.html_text import MARKUP, html_text
from assay.text.prefilter import Rule, each, is_wide, where

_INVISIBLE = "[\u00ad\u200b\u2060\ufeff]"
"""Soft hyphen, zero-width space, word joiner, byte-order mark. Not the zero-width joiner and non-joiner: they carry
meaning in emoji, in Persian and in the scripts of India."""

_PLANE_ENDS = "".join(chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))
_NONCHARACTERS = f"[\ufdd0-\ufdef{_PLANE_ENDS}]"
"""Code points that are no characters and never will be."""
_ASCII_CONTROLS = r"[\x00-\x08]|[\x0b\x0c\x0e-\x15]|[\x16-\x1f]|\x7f"
"""In classes of at most ten, for which Rust leaps over bytes that are in none: three times as fast as one class."""
_BREAKING_CONTROLS = r"[\x0b\x0c\x1c-\x1f\x85]"
_LINE_SEPARATORS = "[\u2028\u2029]"
_CONTROLS = r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
"""Category Cc without white space, and the marks that turn the direction of writing."""


def _in_rust(pattern: re.Pattern[str]) -> str:
    """A verbose pattern of Python's as one of Rust's, which drops white space inside classes as well."""
    without_comments = re.sub(r"(?m)#.*$", "", pattern.pattern)
    plain = re.sub(r"\[[^\]]*\]|\s+", lambda part: part[0] if part[0][0] == "[" else "", without_comments)
    # Python's \w has numbers such as ¹ as well.
    return plain.replace(r"\w", r"[\w\p{N}]")


_MOJIBAKE = _in_rust(BADNESS_RE)
"""ftfy's own test for texts that it looks at closely, some seventy times as fast."""


def repair_mojibake(text: pl.Expr) -> pl.Expr:
    """Undo a wrong decoding, such as `cafÃ©` for `café`, line by line, by ftfy's `fix_encoding` and no more of ftfy.

    It changes a line only where one wrong decoding explains it and the repair reads better: `São` and `MÜNCHEN` stay.
    """
    change = each(lambda one: "\n".join(map(ftfy.fix_encoding, one.split("\n"))))
    return where(text, (is_wide, _MOJIBAKE), change)


def html_to_text(text: pl.Expr) -> pl.Expr:
    """The text that a reader would see of HTML; markup that it shows, such as `&lt;br&gt;`, stays as text.

    It decodes, so it is for texts that it has not seen: of `write &amp;lt;`, a second run would leave `write <`.
    """
    return where(text, MARKUP, each(html_text))


def repair_unicode(text: pl.Expr) -> pl.Expr:
    """Compose characters (Unicode NFC), and remove those that have neither width nor meaning, and noncharacters.

    U+FFFD stays: it says that something is lost, and where.
    """
    gone = f"{_INVISIBLE}|{_NONCHARACTERS}"
    return where(text, is_wide, lambda text: text.str.replace_all(gone, "").str.normalize("NFC"))


def remove_control_characters(text: pl.Expr) -> pl.Expr:
    """Take control characters out; those that separate fields become a space, those that separate lines a line end.

    Tab, line feed and carriage return stay. Marks of the direction of writing go: they serve the display alone.
    """
    text = where(text, _ASCII_CONTROLS, _without_controls)
    return where(
        text,
        (is_wide, f"{_LINE_SEPARATORS}|{_BREAKING_CONTROLS}|{_CONTROLS}"),
        lambda text: _without_controls(text.str.replace_all(_LINE_SEPARATORS, "\n")),
    )


def remove_quoted_replies(text: pl.Expr) -> pl.Expr:
    """Take out the earlier mails that a mail quotes, with the line that announces them; answers in between stay.

    A text that is nothing but a quote stays, and so does one of a single line.
    """
    return where(text, (_has_lines, QUOTE_SIGNS), each(without_quotes))


def remove_signatures(text: pl.Expr) -> pl.Expr:
    """Take out the signature at the end of a mail: from `-- `, a closing formula or "Sent from my phone" on.

    At most the last ten lines go, and never the whole text.
    """
    return where(text, (_has_lines, SIGNATURE_SIGNS), each(without_signature))


def remove_matches(text: pl.Expr, *, patterns: Sequence[str]) -> pl.Expr:
    """Take out everything that one of your own patterns matches, such as advertisements and legal footers.

    Rust's regular expressions: their time is linear in the text, whatever the pattern.
    """
    for pattern in patterns:
        text = where(text, pattern, _without(pattern))
    return text


def _without_controls(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(_BREAKING_CONTROLS, " ").str.replace_all(_CONTROLS, "")


def _without(pattern: str) -> Rule:
    # A function of its own: a lambda in a loop would see the last pattern.
    return lambda text: text.str.replace_all(pattern, "")


def _has_lines(text: pl.Expr) -> pl.Expr:
    return text.str.contains("\n", literal=True)
