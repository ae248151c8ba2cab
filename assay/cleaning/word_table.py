"""The table of words to expand or mend: how its CSV file is read and checked, and how it is applied to a text.

The file has the columns `kind` (abbreviation or misspelling: for those who read it), `from` and `to`. `from` is one
word in lower case: letters and digits, also with a slash or an ampersand in it or after it (`w/o`, `w/`). It stands
for the word in any case, and what is written instead follows: Recieve, Receive; RECIEVE, RECEIVE. An expansion of
several words stays in lower case, as BTW is not shouted.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from assay.core.errors import InputError

COLUMNS = ["kind", "from", "to"]
KINDS = ("abbreviation", "misspelling")
LETTER = r"[^\W_]"
ENTRY = re.compile(rf"{LETTER}+(?:[/&]{LETTER}*)*")
WORD = re.compile(
    # Not a part of a compound, an address, a hashtag, a path or a placeholder.
    rf"(?<![\w@#/\\<&=])(?<!\w[.\-])({LETTER}++(?:[/&]{LETTER}*+)*+)(?![\w@=>\\]|[.\-]\w|://)"
)


def read_word_table(path: Path) -> dict[str, str]:
    """From each word, in lower case, to what to write instead.

    Raises `InputError`: no such file, a row that is not as it should be, or an entry that is there twice or within
    what another one writes.
    """
    table: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if header != COLUMNS:
                raise InputError(f"{path}, line 1: the columns are {header}; they must be {COLUMNS}")
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if not row:
                    continue
                if len(row) != len(COLUMNS):
                    raise InputError(f"{place}: {len(row)} values, {row}; there must be {len(COLUMNS)}: {COLUMNS}")
                kind, word, instead = row
                if kind not in KINDS:
                    raise InputError(f"{place}: kind {kind!r}; it must be one of {list(KINDS)}")
                if not ENTRY.fullmatch(word) or word != word.lower():
                    raise InputError(
                        f"{place}: from {word!r}; it must be one word in lower case, such as 'pls' or 'w/o'"
                    )
                if word in table:
                    raise InputError(f"{place}: {word!r} is there already, in line {lines[word]}; take one of them out")
                if not instead or instead != " ".join(instead.split()):
                    raise InputError(f"{place}: to {instead!r}; it must be words with one space between them")
                table[word] = instead
                lines[word] = rows.line_num
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct `clean.rule_settings.word_table` in params.yaml") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: no CSV: {error}; quote values that hold a comma or a quote") from None
    for word, instead in table.items():
        if (again := expanded(instead, table)) != instead:
            raise InputError(
                f"{path}, line {lines[word]}: {word!r} becomes {instead!r}, which would become {again!r} in turn; "
                "an entry may not lead to another"
            )
    return table


def gate_pattern(table: Mapping[str, str]) -> str:
    """A pattern of Polars that is in every text that `expanded` changes, and in few others."""
    whole = [re.escape(word) for word in table if word[-1].isalnum()]
    open_ended = [re.escape(word) for word in table if not word[-1].isalnum()]
    flags = "i-u" if all(word.isascii() for word in table) else "i"
    endings = [rf"(?:{'|'.join(whole)})\b"] if whole else []
    return rf"(?{flags}:\b(?:{'|'.join([*endings, *open_ended])}))"


def expanded(text: str, table: Mapping[str, str]) -> str:
    """A text with the words of the table replaced; a word glued to another one stays."""

    def instead(match: re.Match[str]) -> str:
        word = match[0]
        value = table.get(word.lower())
        if value is None:
            return word
        if word.isupper() and sum(map(str.isalpha, word)) > 1:
            return value if " " in value else value.upper()
        return value[0].upper() + value[1:] if word[0].isupper() else value

    return WORD.sub(instead, text)
