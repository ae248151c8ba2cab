"""Texts of any script as the patterns of personal data read them, of the same length, so that offsets hold.

Chinese, Japanese and Thai put no space around an address, Korean puts particles after it, Hebrew and Arabic before. So
for a value made of Latin letters and digits, a letter of another script is a boundary, as a space is (`LATIN`).
`context_words.csv` has the words before a number that tell what it is; add those of your language.
"""

import csv
import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from assay.core.patterns import fill_patterns

LATIN = "0-9A-Za-z_\u00aa\u00ba\u00c0-\u024f\u0300-\u0344\u0346-\u036f\u1e00-\u1eff"
"""For a class: digits, the underscore, and letters of the Latin script with their accents.

Not U+00B5 and U+0345, which without regard to case are letters of Greek."""
SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""For a class: letters of scripts in which a word begins in the middle of others: Thai, Lao, Burmese, Khmer, CJK."""
WORD_START = "(?<![0-9A-Za-z\u00c0-\u024f])"
_NOT_FOLDED = "\uff01\uff0c\uff1a\uff1b"
"""Punctuation between values: a comma or colon of full width is no part of a number."""
_FOLDED = (
    {ord(char): str(unicodedata.decimal(char)) for char in map(chr, range(0x80, 0x20000)) if char.isdecimal()}
    | {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in _NOT_FOLDED}
    | dict.fromkeys(map(ord, "\u2212\ufe63"), "-")
    | {0xFE6B: "@", 0x3000: " ", 0xFFE5: "\u00a5"}
)
FOLDABLE = "[[\\p{Nd}--[0-9]]\uff0b\uff0d-\uff0f\uff20-\uff3a\uff41-\uff5a\ufe6b]"
"""Rust's class of the digits and letters that are folded, but for those that are no part of a value by themselves."""
_KANA_DASH = re.compile("(?<=[0-9])\u30fc(?=[0-9])")
_MARKDOWN = re.compile(r"(?<!\w)_+|_+(?![\w@])")
_PATTERNS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("patterns.yaml").read_text(encoding="utf-8"))


def folded(text: str) -> str:
    """The text with every digit and every full-width letter as ASCII's, and the underscores of Markdown as `*`.

    A letter that lengthens a vowel in Japanese counts as the hyphen that it is typed for between digits.
    """
    view = text if text.isascii() else _KANA_DASH.sub("-", text.translate(_FOLDED))
    return _MARKDOWN.sub(lambda match: "*" * len(match[0]), view) if "_" in view else view


def read_rows(file: str) -> list[dict[str, str]]:
    """The rows of a CSV file that stands beside this module, by column."""
    with Path(__file__).with_name(file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def context_words(kind: str) -> str:
    """The words of a kind in all languages of `context_words.csv`, as alternatives of a regular expression."""
    return "|".join(row["words"] for row in read_rows("context_words.csv") if row["kind"] == kind)


def read_patterns(module: str, **given: str) -> dict[str, str]:
    """The patterns of a module in `patterns.yaml`, by name; see `fill_patterns`."""
    words = {f"words:{kind}": context_words(kind) for kind in {row["kind"] for row in read_rows("context_words.csv")}}
    classes = {"latin": LATIN, "spaceless": SPACELESS, "word_start": WORD_START}
    return fill_patterns(_PATTERNS[module], words | classes | given)
