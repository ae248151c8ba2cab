import csv
import io
from pathlib import Path

import pytest

from assay.core.errors import InputError
from assay.human_review.preference_judgements import HEADER, hash_question, preference_line, read_preferences

PATH = Path("data/preferences.csv")
LINE = "faq:1,Yes.,No.,a,Ann,2026-11-23,dpo,base"


def parsed(*lines: str) -> list[str]:
    return [one.preferred for one in read_preferences(PATH, "\n".join([HEADER, *lines]).encode())]


def test_lines_are_read_with_their_numbers() -> None:
    content = f"\ufeff{HEADER}\r\n{LINE}\r\n\r\n" + 'faq:2,"A, or B",C,tie,"Bo ""B""",2026-01-02,,\r\n'
    first, second = read_preferences(PATH, content.encode())
    assert (first.line, first.prompt_id, first.favourite, first.model_a) == (2, "faq:1", "Yes.", "dpo")
    assert (second.line, second.answer_a, second.reviewer, second.favourite) == (4, "A, or B", 'Bo "B"', None)
    assert first.answers == frozenset({"No.", "Yes."})


def test_an_answer_of_several_lines_stays_one_line() -> None:
    answer = 'first\nsecond "so", \\n is no break\\'
    values = {
        "prompt_id": "faq:1",
        "answer_a": answer,
        "answer_b": "x\r\ny",
        "preferred": "b",
        "reviewer": "Ann",
        "date": "2026-11-23",
        "model_a": "m",
        "model_b": "n",
        "question_hash": "",
    }
    line = preference_line(values)
    assert line.count("\n") == 1
    (one,) = read_preferences(PATH, f"{HEADER}\n{line}".encode())
    assert (one.answer_a, one.answer_b) == (answer, "x\ny")
    assert len(next(csv.reader(io.StringIO(line)))) == 9
    with pytest.raises(InputError, match="has a line break"):
        preference_line(values | {"reviewer": "A\nB"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("faq:1,Yes.,No.,left,Ann,2026-11-23,,", "line 3: faq:1: preferred is 'left'; it is one of a, b, tie"),
        (",Yes.,No.,a,Ann,2026-11-23,,", "line 3: no prompt_id"),
        ("faq:1,Yes.,No.,a, ,2026-11-23,,", "line 3: faq:1: no reviewer"),
        ("faq:1,Yes.,No.,a,Ann,23/11/2026,,", "line 3: faq:1: date '23/11/2026' is no day"),
        ("faq:1,Yes, or no,No.,a,Ann,2026-11-23,,", "line 3: faq:1: preferred is 'No.'"),
        ("faq:1,Yes, or no,No.,a,Ann,2026-11-23,,,", "line 3: 10 fields instead of 9"),
        (r"faq:1,\frac{1}{2},No.,a,Ann,2026-11-23,,", r"line 3: faq:1: answer_a has \f, which is no escape; write a"),
        (r"faq:1,Yes.,See C:\temp,a,Ann,2026-11-23,,", r"line 3: faq:1: answer_b has \t, which is no escape"),
        ("faq:1,Yes.,No.\\,a,Ann,2026-11-23,,", "line 3: faq:1: answer_b has \\, which is no escape"),
        ('faq:1,"Yes.,No.,a,Ann,2026-11-23,,', "line 3: not CSV"),
        (HEADER, "line 3: the header again"),
        ("<<<<<<< HEAD", "line 3: a merge marker"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, said: str) -> None:
    with pytest.raises(InputError, match=r"^data/preferences\.csv: line") as raised:
        parsed(LINE, line)
    assert said in str(raised.value)


def test_lines_and_files_of_earlier_versions_can_be_read() -> None:
    old_header = HEADER.rpartition(",")[0]
    for content in (f"{old_header}\n{LINE}\n", f"{HEADER}\n{LINE}\n"):
        (one,) = read_preferences(PATH, content.encode())
        assert (one.model_b, one.question_hash, one.is_of("Anything?")) == ("base", "", True)
    (new,) = read_preferences(PATH, f"{HEADER}\n{LINE},{hash_question('How  long?')}".encode())
    assert (new.is_of("How long?"), new.is_of("How far?")) == (True, False)


def test_a_bad_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; make it with this line alone: prompt_id,"):
        read_preferences(tmp_path / "none.csv")
    with pytest.raises(InputError, match="line 1: the header is 'id,a,b'"):
        read_preferences(PATH, b"id,a,b\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_preferences(PATH, f"{HEADER}\n".encode() + b"\xff")


def test_the_file_in_git_can_be_read(repository: Path) -> None:
    read_preferences(repository / PATH)
