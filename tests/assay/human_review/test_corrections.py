from pathlib import Path

import pytest

from assay.core.errors import InputError
from assay.human_review import corrections
from assay.human_review.corrections import HEADER, Correction, LineError, check_labels, correction_line, settle
from tests.own_cases import read_cases

PATH = Path("data/corrections.csv")


def parsed(*lines: str, header: str = HEADER) -> list[Correction]:
    return corrections.read_corrections(PATH, "\n".join([header, *lines, ""]).encode())


def line(number: int, old: str, new: str, reviewer: str = "Ann", date: str = "2026-11-23") -> Correction:
    return Correction(number, "a:1", "label", old, new, "", reviewer, date)


def error_of(*lines: str, header: str = HEADER) -> str:
    with pytest.raises(InputError) as caught:
        parsed(*lines, header=header)
    return str(caught.value)


def test_lines_are_read_with_their_numbers_quotes_and_empty_fields() -> None:
    assert parsed(
        'a:1,label,neutral,positive,"she says ""great"", twice",Ann,2026-11-23', "", "b,row,keep,remove,,Bo,2026-01-02"
    ) == [
        Correction(2, "a:1", "label", "neutral", "positive", 'she says "great", twice', "Ann", "2026-11-23"),
        Correction(4, "b", "row", "keep", "remove", "", "Bo", "2026-01-02"),
    ]


def test_byte_order_mark_crlf_and_a_missing_last_line_end_are_tolerated() -> None:
    content = f"\ufeff{HEADER}\r\na,label,x,y,,Ann,2026-11-23".encode()
    assert [(one.line, one.date) for one in corrections.read_corrections(PATH, content)] == [(2, "2026-11-23")]


def test_a_header_alone_and_a_quoted_header_are_fine() -> None:
    assert parsed() == []
    assert parsed(header='"id","field","old","new","reason","reviewer","date"') == []


def test_a_character_that_python_takes_for_a_line_end_is_part_of_its_field() -> None:
    assert parsed("a,label,x\u2028y,x,,Ann,2026-11-23")[0].old == "x\u2028y"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,label,x,y,Ann,2026-11-23", "line 2: 6 fields instead of 7"),
        ("a,label,x,y,well, no,Ann,2026-11-23", "line 2: 8 fields instead of 7"),
        ("a,text,x,y,,Ann,2026-11-23", "line 2: a: unknown field 'text'; it is one of label, reference_label, row"),
        ("a,label,x,y,, ,2026-11-23", "line 2: a: no reviewer"),
        (",label,x,y,,Ann,2026-11-23", "line 2: no id"),
        ("a,label,x,y,,Ann,23/11/2026", "line 2: a: date '23/11/2026' is no day; write it as 2026-11-23"),
        ("a,label,x,y,,Ann,2026-02-30", "line 2: a: date '2026-02-30' is no day"),
        ("a,label,x,y,,Ann,20261123", "line 2: a: date '20261123' is no day"),
        ("a,row,x,remove,,Ann,2026-11-23", "line 2: a: field `row` goes from 'x' to 'remove'"),
        ("a,row,keep,keep,,Ann,2026-11-23", "line 2: a: field `row` goes from 'keep' to 'keep'"),
        ('a,label,x,y,"open,Ann,2026-11-23', "line 2: not CSV"),
        (HEADER, "line 2: the header again"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_the_fix(text: str, expected: str) -> None:
    assert f"data/corrections.csv: {expected}" in error_of(text)


def test_all_wrong_lines_are_shown_up_to_ten() -> None:
    text = error_of(*["a,label,x,y,,Ann,yesterday"] * 13)
    assert [f"line {number}:" in text for number in (2, 11, 12)] == [True, True, False]
    assert text.endswith("and 3 more")


def test_another_header_names_what_is_missing() -> None:
    text = error_of(header="id;field;old;new;reason;reviewer;date")
    assert "line 1: the header is 'id;field;old;new;reason;reviewer;date', without id, field" in text
    assert f"it must be {HEADER}, with commas" in text
    assert "without reviewer;" in error_of(header="id,field,old,new,reason,date")


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_file_has_no_header(content: bytes) -> None:
    with pytest.raises(InputError, match="line 1: the header is ''"):
        corrections.read_corrections(PATH, content)


def test_a_merge_marker_says_how_to_resolve() -> None:
    one, other = "a,label,x,y,,Ann,2026-11-23", "b,label,x,y,,Bo,2026-11-23"
    text = error_of("<<<<<<< HEAD", one, "||||||| 1234", "=======", other, ">>>>>>> bo")
    assert "line 2 (and lines 4, 5, 7): a merge marker, '<<<<<<< HEAD'" in text
    assert "delete the marker lines alone, and keep all others" in text


def test_what_is_not_utf_8_is_named_by_its_line() -> None:
    content = f"{HEADER}\na,label,x,y,,Ann,2026-11-23\nb,label,x,y,caf".encode() + b"\xe9,Ann,2026-11-23\n"
    with pytest.raises(InputError, match="line 3: not UTF-8 \\(byte 0xe9\\); save it as UTF-8"):
        corrections.read_corrections(PATH, content)


def test_a_missing_file_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no such file; make it with this line alone: {HEADER}"):
        corrections.read_corrections(tmp_path / "none.csv")


def test_a_relabel_and_a_confirmation() -> None:
    outcome = settle([line(2, "x", "y")], "x")
    assert (outcome.value, outcome.deciding.line, outcome.agreements) == ("y", 2, 0)
    assert settle([line(2, "x", "x")], "x").value == "x"
    assert settle([line(2, "", "y")], "").value == "y"
    assert settle([line(2, "x", "")], "x").value == ""


def test_a_later_line_goes_on_from_an_earlier_one() -> None:
    lines = [line(4, "x", "y"), line(9, "y", "z", "Bo"), line(11, "z", "z", "Cy")]
    assert (settle(lines, "x").value, settle(lines, "x").deciding.line) == ("z", 11)
    there_and_back = [line(2, "x", "y"), line(3, "y", "x", "Bo"), line(4, "x", "z", "Cy")]
    assert settle(there_and_back, "x").value == "z"


def test_two_reviewers_who_say_the_same_agree() -> None:
    outcome = settle([line(2, "x", "y"), line(3, "x", "y", "Bo"), line(4, "x", "y", "Cy")], "x")
    assert (outcome.value, outcome.deciding.line, outcome.agreements) == ("y", 2, 2)
    assert settle([line(2, "x", "x"), line(3, "x", "x", "Bo")], "x").agreements == 1
    superseded = settle([line(2, "x", "y"), line(3, "y", "z", "Cy"), line(4, "x", "y", "Bo")], "x")
    assert (superseded.value, superseded.agreements) == ("z", 1)


@pytest.mark.parametrize(
    ("one", "other", "said"), read_cases(__file__)["two_decisions_from_the_same_value_conflict_in_either_order"]
)
def test_two_decisions_from_the_same_value_conflict_in_either_order(
    one: tuple[str, str], other: tuple[str, str], said: str
) -> None:
    with pytest.raises(LineError) as caught:
        settle([line(2, *one), line(3, *other, "Bo")], "x")
    assert f"a:1: two decisions start from label 'x': {said}; agree on one" in str(caught.value)
    with pytest.raises(LineError, match="two decisions start from"):
        settle([line(2, *other, "Bo"), line(3, *one)], "x")


def test_a_reviewer_may_change_what_they_confirmed_but_not_what_another_confirmed_too() -> None:
    lines = [line(2, "x", "x"), line(3, "x", "y")]
    assert settle(lines, "x").value == "y"
    assert settle([*lines, line(4, "x", "y", "Bo")], "x").agreements == 1
    with pytest.raises(LineError, match=r"Bo confirms it \(line 2\), and Ann says 'y' \(line 4\)"):
        settle([line(2, "x", "x", "Bo"), line(3, "x", "x"), line(4, "x", "y")], "x")


def test_a_repeated_line_names_both() -> None:
    with pytest.raises(LineError, match="repeats line 2; delete one of the two"):
        settle([line(2, "x", "y"), line(5, "x", "y")], "x")
    with pytest.raises(LineError, match="Ann decided the same in line 2"):
        settle([line(2, "x", "y"), line(5, "x", "y", date="2026-11-24")], "x")


def test_an_old_value_that_no_longer_matches_is_named_with_the_one_there_is() -> None:
    with pytest.raises(LineError) as caught:
        settle([line(7, "x", "y")], "w")
    assert caught.value.line == 7
    assert "a:1: old label is 'x' here, and the row has 'w'; look at the row again (`make why ID=a:1`)" in str(
        caught.value
    )
    assert "then write 'w' as old, or delete the line" in str(caught.value)
    with pytest.raises(LineError, match="the row has 'y' since line 2"):
        settle([line(2, "x", "y"), line(9, "w", "z")], "x")


def test_a_label_that_no_row_has_lists_those_that_there_are() -> None:
    lines = [line(2, "x", "why"), line(3, "x", ""), line(4, "x", "x")]
    assert check_labels(lines, {"b", "a"}) == [
        (2, "a:1: no row has the label 'why'; there are a, b. A new one must be in `correct.new_labels` of params.yaml")
    ]


def test_a_written_line_is_read_as_it_was() -> None:
    values = {
        "id": 'a,"1"',
        "field": "label",
        "old": "x",
        "new": "y, z",
        "reason": " two\r\nlines ",
        "reviewer": "Ann Ω",
        "date": "2026-11-23",
    }
    text = correction_line(values)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert parsed(text.removesuffix("\n")) == [Correction(2, **(values | {"reason": "two lines"}))]
    with pytest.raises(InputError, match="has a line break"):
        correction_line(values | {"new": "y\nz"})
