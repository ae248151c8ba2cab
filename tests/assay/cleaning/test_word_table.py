from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.cleaning.word_table import expanded, gate_pattern, read_word_table
from assay.core.errors import InputError

REPOSITORY_TABLE = Path("assay/cleaning/word_table.csv")


def table(folder: Path, *rows: str, header: str = "kind,from,to") -> Path:
    path = folder / "words.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_the_table_of_the_repository_is_in_order() -> None:
    words = read_word_table(REPOSITORY_TABLE)
    assert len(words) > 300
    assert (words["pls"], words["recieve"], words["w/o"]) == ("please", "receive", "without")
    lines = REPOSITORY_TABLE.read_text(encoding="utf-8").splitlines()[1:]
    assert lines == sorted(lines, key=lambda line: line.split(",")[:2])


def test_a_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = table(
        tmp_path, "abbreviation,w/,with", "", 'misspelling,strasse,"Straße, lang"', "misspelling,english,English"
    )
    assert read_word_table(path) == {"w/": "with", "strasse": "Straße, lang", "english": "English"}
    assert read_word_table(table(tmp_path)) == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "abbrev,pls,please",
            r"words\.csv, line 3: kind 'abbrev'; it must be one of \['abbreviation', 'misspelling'\]",
        ),
        ("abbreviation,pls", r"line 3: 2 values, \['abbreviation', 'pls'\]; there must be 3"),
        ("abbreviation,pls,please,now", "line 3: 4 values"),
        ("abbreviation,Pls,please", "line 3: from 'Pls'; it must be one word in lower case"),
        ("abbreviation,if pls,please", "line 3: from 'if pls'"),
        ("abbreviation,,please", "line 3: from ''"),
        ("abbreviation,p-l,please", "line 3: from 'p-l'"),
        ("abbreviation,pls,", "line 3: to ''; it must be words with one space between them"),
        ("abbreviation,pls, please", "line 3: to ' please'"),
        ("misspelling,thx,thanks", "line 3: 'thx' is there already, in line 2; take one of them out"),
        ("misspelling,ta,many thx", "line 3: 'ta' becomes 'many thx', which would become 'many thanks' in turn"),
        ('misspelling,ta,"x" y', "no CSV"),
    ],
)
def test_a_bad_row_is_an_error_that_names_file_line_and_fix(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_word_table(table(tmp_path, "abbreviation,thx,thanks", row))


def test_other_columns_and_other_encodings_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"words\.csv, line 1: the columns are \['from', 'to'\]; they must be"):
        read_word_table(table(tmp_path, header="from,to"))
    path = tmp_path / "latin.csv"
    path.write_bytes("kind,from,to\nmisspelling,strase,straße\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.csv: not UTF-8 .*; save it as UTF-8"):
        read_word_table(path)


WORDS = {"pls": "please", "w/": "with", "w/o": "without", "r&d": "research", "straße": "Weg", "tbd": "to be done"}


@given(
    text=st.lists(st.sampled_from([*WORDS, *"/&@.-#  ", "PLS", "Straße", "é", "\n"]) | st.text(max_size=3)).map("".join)
)
def test_the_gate_lets_everything_through_that_changes(text: str) -> None:
    for words in (WORDS, {word: to for word, to in WORDS.items() if word.isascii()}):
        if expanded(text, words) != text:
            assert pl.Series([text]).str.contains(gate_pattern(words)).item()
