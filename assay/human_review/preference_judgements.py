"""`data/preferences.csv`: which of two answers people preferred, one judgement a line, only ever added to.

A line holds the prompt's id, both answers, what was said of them, which models wrote them, and a hash of the question:
once that is reworded, the judgement is of another question. Lines of earlier versions end before it, and nobody can
tell. A line break inside an answer is written `\\n` and a backslash `\\\\`, so that a judgement stays one line, and git
can keep the lines of two branches (`merge=union`).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.core.forms import find_other_forms
from assay.human_review.append_only_csv import csv_line, read_lines, refuse, require_decider

COLUMNS = ("prompt_id", "answer_a", "answer_b", "preferred", "reviewer", "date", "model_a", "model_b", "question_hash")
SINCE = 1
"""So many of the last columns are not in files of earlier versions."""
HEADER = ",".join(COLUMNS)
PREFERRED = ("a", "b", "tie")
ANSWERS = ("answer_a", "answer_b")
_ESCAPED = re.compile(r"\\(.?)")


@dataclass(frozen=True)
class Preference:
    """One line of the file; `preferred` is one of `PREFERRED`."""

    line: int
    prompt_id: str
    answer_a: str
    answer_b: str
    preferred: str
    reviewer: str
    date: str
    model_a: str
    model_b: str
    question_hash: str = ""

    @property
    def answers(self) -> frozenset[str]:
        """Both answers, whichever stood first."""
        return frozenset((self.answer_a, self.answer_b))

    @property
    def favourite(self) -> str | None:
        """The answer that was preferred; None: neither."""
        return {"a": self.answer_a, "b": self.answer_b}.get(self.preferred)

    def is_of(self, question: str) -> bool:
        """Whether this question was judged, as far as the line tells."""
        return self.question_hash in ("", hash_question(question))


def hash_question(question: str) -> str:
    """16 hexadecimal digits of the SHA-256 of a question; white space does not count."""
    return hashlib.sha256(" ".join(question.split()).encode()).hexdigest()[:16]


def read_preferences(path: Path, content: bytes | None = None) -> list[Preference]:
    """The lines of the file, or of its `content` if given; raises as `read_lines`."""
    return read_lines(path, COLUMNS, _parsed, SINCE, content)


def _parsed(number: int, values: list[str]) -> Preference:
    """One line as a judgement. Raises `ValueError`: it is none; the sentence for the user."""
    row: dict[str, str] = dict(zip(COLUMNS, values, strict=True))
    if not row["prompt_id"]:
        raise ValueError("no prompt_id; write the id of the chat that was answered")
    if row["preferred"] not in PREFERRED:
        fix = f"it is one of {', '.join(PREFERRED)}; is an answer that has a comma in double quotes?"
        raise ValueError(f"{row['prompt_id']}: preferred is {row['preferred']!r}; {fix}")
    require_decider(row["prompt_id"], row["reviewer"], row["date"], "judged")
    for name in ANSWERS:
        if lone := [match[0] for match in _ESCAPED.finditer(row[name]) if match[1] not in ("n", "\\")]:
            where = f"{row['prompt_id']}: {name} has {lone[0]}, which is no escape"
            raise ValueError(f"{where}; write a backslash as \\\\ and a line break as \\n")
        row[name] = _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], row[name])
    return Preference(number, *(row[name] for name in COLUMNS))


def check_prompt_ids(lines: Sequence[Preference], prompts: Iterable[str], path: Path) -> None:
    """Raise `InputError` where a line names a prompt that is not there, but is in another form, such as 1.0 for 1."""
    others = find_other_forms({one.prompt_id for one in lines}, prompts)
    refuse(((one.line, others[one.prompt_id]) for one in lines if one.prompt_id in others), path)


def preference_line(values: Mapping[str, str]) -> str:
    """One judgement, by column, as a line of the file.

    Raises `InputError`: a value other than an answer has a line break, which the file cannot hold.
    """
    row = {name: values[name] for name in COLUMNS}
    for name in ANSWERS:
        row[name] = re.sub("\r\n?|\n", r"\\n", row[name].replace("\\", "\\\\"))
    return csv_line(row, "the preferences")
