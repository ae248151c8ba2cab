import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.human_review.corrections import HEADER
from stages import correct
from tests.own_params import change
from tests.own_process import commit_all, git
from tests.own_results import read_outputs

PARAMS = "correct: {path: data/corrections.csv, new_labels: []}\n"
ROWS: list[tuple[str, str | None, str | None]] = [
    ("a", "good", "good"),
    ("b", "bad", "good"),
    ("c", "good", None),
    ("d", None, "bad"),
]


@pytest.fixture(autouse=True)
def workspace() -> None:
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    records = pl.DataFrame(
        [(row_id, f"text {row_id}", *labels, "s") for row_id, *labels in ROWS],
        schema=dict.fromkeys(("id", "text", "label", "reference_label", "source"), pl.String),
        orient="row",
    )
    records.write_parquet("data/clean/records.parquet", mkdir=True)
    records.clear().write_parquet("data/clean/unlabelled.parquet")
    removed = {"id": "e", "rule": "near_duplicate", "before": "text", "after": None, "kept_id": "a"}
    pl.DataFrame([removed], schema=dict.fromkeys(removed, pl.String)).write_parquet("data/clean/removed.parquet")


def write(*lines: str) -> None:
    Path("data/corrections.csv").write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")


def run(*lines: str) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    write(*lines)
    correct.main()
    return read_outputs("data/corrected", "correct")


def refused(*lines: str) -> str:
    write(*lines)
    with pytest.raises(InputError) as caught:
        correct.main()
    assert not Path("data/corrected").exists()
    return str(caught.value)


def test_without_corrections_the_rows_go_on_as_they_are() -> None:
    out, metrics = run()
    given = pl.read_parquet("data/clean/records.parquet")
    assert out["records"].equals(given.with_columns(reviewed=pl.lit(value=False)))
    assert (metrics["rows_in"], metrics["rows_out"], metrics["removed"]) == (4, 4, {"correction": 0})
    assert out["changed"].columns[:4] == ["id", "rule", "before", "after"]
    assert out["removed"].columns[:4] == ["id", "rule", "before", "after"]


def test_labels_are_corrected_and_confirmed_and_rows_removed() -> None:
    out, metrics = run(
        "d,label,,bad,was empty,Ann,2026-11-23",
        "b,label,bad,good,irony,Bo,2026-11-22",
        "a,label,good,good,,Ann,2026-11-23",
        "c,row,keep,remove,spam,Ann,2026-11-24",
        "b,reference_label,good,bad,,Ann,2026-11-23",
        "a,reference_label,good,good,,Ann,2026-11-23",
    )
    assert out["records"].select("id", "label", "reference_label", "reviewed").rows() == [
        ("a", "good", "good", True),
        ("b", "good", "bad", True),
        ("d", "bad", "bad", True),
    ]
    assert out["records"].columns[-1] == "reviewed"
    assert out["changed"].drop("line").rows() == [
        ("a", "confirm_label", "good", "good", "", "Ann", "2026-11-23"),
        ("a", "confirm_reference_label", "good", "good", "", "Ann", "2026-11-23"),
        ("b", "correct_reference_label", "good", "bad", "", "Ann", "2026-11-23"),
        ("b", "relabel", "bad", "good", "irony", "Bo", "2026-11-22"),
        ("d", "relabel", None, "bad", "was empty", "Ann", "2026-11-23"),
    ]
    assert out["removed"].rows() == [("c", "correction", "text c", None, "spam", "Ann", "2026-11-24", 5)]
    del metrics["run_id"]
    assert metrics == {
        "rows_in": 4,
        "rows_out": 3,
        "removed": {"correction": 1},
        "corrections": 6,
        "reviewers": 2,
        "reviewed": 3,
        "relabelled": 2,
        "confirmed": 1,
        "reference_relabelled": 1,
        "reference_confirmed": 1,
        "agreements": 0,
        "not_applied": 0,
    }


def test_a_label_may_be_taken_away() -> None:
    out, _ = run("a,label,good,,neither,Ann,2026-11-23")
    assert out["records"].row(0, named=True)["label"] is None
    assert out["records"].row(0, named=True)["reviewed"] is True


def test_a_row_that_was_taken_out_may_be_brought_back_and_counts_once() -> None:
    out, metrics = run(
        "c,row,keep,remove,,Ann,2026-11-23",
        "c,row,remove,keep,,Bo,2026-11-24",
        "b,row,keep,remove,,Ann,2026-11-23",
        "b,label,bad,good,,Bo,2026-11-23",
    )
    assert out["records"]["id"].to_list() == ["a", "c", "d"]
    assert (metrics["relabelled"], metrics["removed"]) == (0, {"correction": 1})
    assert out["changed"]["id"].to_list() == ["b"]


def test_two_reviewers_who_agree_are_counted_once() -> None:
    out, metrics = run("b,label,bad,good,,Ann,2026-11-23", "b,label,bad,good,clear,Bo,2026-11-23")
    assert (metrics["relabelled"], metrics["agreements"], metrics["corrections"]) == (1, 1, 2)
    assert out["changed"].height == 1


def test_a_row_that_clean_removed_is_said_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    _, metrics = run("e,label,good,bad,,Ann,2026-11-23")
    assert metrics["not_applied"] == 1
    assert metrics["corrections"] == 1
    assert capsys.readouterr().err == (
        "correct: data/corrections.csv: line 2: not applied,"
        " since `clean` removed e (near_duplicate; a stands for it)\n"
    )


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_lines() -> None:
    text = refused(
        "a,label,bad,good,,Ann,2026-11-23",
        "nobody,label,bad,good,,Ann,2026-11-23",
        "b,label,bad,great,,Ann,2026-11-23",
        "c,label,good,bad,,Ann,2026-11-23",
        "c,label,good,good,,Bo,2026-11-23",
        "d,label,,bad,,Ann,2026-11-23",
        "d,label,,bad,,Ann,2026-11-23",
    )
    lines = [part.strip().removeprefix("data/corrections.csv: ") for part in text.splitlines()]
    assert [part.split(":")[0] for part in lines] == ["line 2", "line 3", "line 4", "line 6", "line 8"]
    assert "old label is 'bad' here, and the row has 'good'" in lines[0]
    assert "no row has the id 'nobody'" in lines[1]
    assert "no row has the label 'great'; there are bad, good" in lines[2]
    assert "Ann says 'bad' (line 5), and Bo confirms it (line 6)" in lines[3]
    assert "repeats line 7" in lines[4]


def test_a_new_label_may_be_allowed() -> None:
    change("correct", new_labels=["great"])
    out, _ = run("b,label,bad,great,,Ann,2026-11-23")
    assert out["records"]["label"].to_list() == ["good", "great", "good", None]


def test_ids_and_labels_in_another_form_are_named_with_both() -> None:
    lines = refused(
        "A,label,good,bad,,Ann,2026-11-23",
        "b,label,bad,G\u200bood,,Ann,2026-11-23",
        "c,label,Good,Good,,Ann,2026-11-23",
        "E,label,good,bad,,Ann,2026-11-23",
    ).splitlines()
    assert "line 2: there is no 'A', but 'a', which differs in form alone: write it so" in lines[0]
    assert r"there is no 'G\u200bood', but 'good', which differs in form alone" in lines[1]
    assert "old label is 'Good' here, and the row has 'good'" in lines[2]
    assert "line 5: there is no 'E', but 'e', which differs" in lines[3]  # `clean` removed it


def test_taking_out_every_row_is_refused() -> None:
    assert "removes all 4 rows" in refused(*(f"{one},row,keep,remove,,Ann,2026-11-23" for one in "abcd"))


@pytest.fixture
def base(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git repository with the committed attributes and a file with one line."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    Path(".gitattributes").write_bytes((repository / ".gitattributes").read_bytes())
    write("a,label,good,good,,Ann,2026-11-23")
    commit_all()


def commit_on(branch: str, *lines: str) -> None:
    """Add lines on a new branch from main."""
    git("checkout", "--quiet", "-b", branch, "main")
    with Path("data/corrections.csv").open("a", encoding="utf-8", newline="") as file:
        file.writelines(f"{line}\n" for line in lines)
    git("commit", "--quiet", "--all", "--message", branch)


def test_what_two_people_added_on_their_branches_merges_in_git(base: None) -> None:
    commit_on("ann", "b,label,bad,good,,Ann,2026-11-23", "d,label,,bad,,Ann,2026-11-23")
    commit_on("bo", "c,label,good,bad,,Bo,2026-11-23", "d,label,,bad,,Bo,2026-11-23")
    git("merge", "--quiet", "--no-edit", "ann")
    text = Path("data/corrections.csv").read_text(encoding="utf-8")
    assert text.count("\n") == 6
    assert "<<<" not in text
    correct.main()
    metrics = read_json("metrics/correct.json")
    assert (metrics["corrections"], metrics["relabelled"], metrics["confirmed"], metrics["agreements"]) == (5, 3, 1, 1)


def test_what_two_people_decided_otherwise_merges_and_is_named_with_both(base: None) -> None:
    commit_on("ann", "b,label,bad,good,,Ann,2026-11-23")
    commit_on("bo", "b,label,bad,bad,,Bo,2026-11-23")
    git("merge", "--quiet", "--no-edit", "ann")
    with pytest.raises(InputError) as caught:
        correct.main()
    text = str(caught.value)
    assert "data/corrections.csv: line 4: b: two decisions start from label 'bad'" in text
    assert {"Bo confirms it (line 3)", "Ann says 'good' (line 4)"} == {
        part for part in ("Bo confirms it (line 3)", "Ann says 'good' (line 4)") if part in text
    }


def test_git_keeps_the_file_and_its_line_ends(repository: Path) -> None:
    attributes = git("check-attr", "merge", "eol", "--", "data/corrections.csv", cwd=repository)
    assert "merge: union" in attributes
    assert "eol: lf" in attributes
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "data/corrections.csv"], cwd=repository)
    assert ignored.returncode == 1
