import json
from pathlib import Path

import pytest

from assay.core.errors import InputError
from assay.core.outputs import output_folder, read_json, write_json, write_text

NO_PROCESS = 2**22 + 1  # Linux has no more


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "data" / "clean"
    with output_folder(target) as folder:
        (folder / "a.txt").write_text("new")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a.txt"]
    assert [path.name for path in target.parent.iterdir()] == ["clean"]


def test_an_older_folder_is_replaced_and_not_added_to(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with output_folder(target) as folder:
        (folder / "new.txt").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new.txt"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")

    def fail() -> None:
        with output_folder(target) as folder:
            (folder / "new.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_remains_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    for name in (".out.partial", f".out.partial-{NO_PROCESS}", ".out.old-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left.txt").write_text(name)
    with output_folder(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
        # It stood aside, and nothing had come in its place.
        assert (tmp_path / "out/left.txt").read_text() == ".out.old-1"
        assert set(tmp_path.iterdir()) == {folder, tmp_path / "out"}
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_json_is_rounded_ordered_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "a.json"
    write_json(path, {"b": 0.12345678, "a": [1, 2.0]})
    assert path.read_text() == json.dumps({"b": 0.123457, "a": [1, 2.0]}, indent=2) + "\n"
    assert read_json(path) == {"b": 0.123457, "a": [1, 2.0]}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert read_json(path)["b"] == 0.123457


def test_a_failed_write_leaves_no_partial_file(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: not valid JSON"):
        read_json(tmp_path / "a.json")
