"""Rules that bring different ways of writing the same thing to one: characters, white space, case.

Order: `fold_compatibility` and `straighten_quotes_and_dashes` before everything that looks for ASCII characters;
`lower_case` last, since placeholders are known by their capitals, and a lower-case URL is another URL.
"""

import re

import polars as pl

from assay.text.prefilter import each, is_wide, where

_PLACEHOLDER = r"<[A-Z][A-Z0-9_]*>"
_STRAIGHT = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe58\ufe63", "-"),
    **dict.fromkeys("\u2014\u2015", "--"),
    "\u2025": "..",
    "\u2026": "...",
}


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


def _lowered_around_placeholders(text: str) -> str:
    parts = re.split(f"({_PLACEHOLDER})", text)
    return "".join(part if number % 2 else part.lower() for number, part in enumerate(parts))
