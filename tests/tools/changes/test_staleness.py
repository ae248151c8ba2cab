"""A stage that has not run since its data, code or params changed is found in git's files alone."""

from pathlib import Path
from typing import Any

import pytest

from assay.core.outputs import write_text
from tools.changes.sides import parsed
from tools.changes.staleness import dvc_hash, stale_stages


def entry(deps: dict[str, str], outs: dict[str, str], params: dict[str, Any] | None = None) -> dict[str, Any]:
    """An entry of `dvc.lock`."""
    listed = {
        kind: [{"path": path, "md5": md5} for path, md5 in paths.items()]
        for kind, paths in (("deps", deps), ("outs", outs))
    }
    return listed | {"params": {"params.yaml": params or {}}}


def lock(clean: str, read_whole: str, read_part: str, both: str = "f1.dir") -> dict[str, Any]:
    """Stages that read what `clean` writes: the folder itself, a file in it, and the folder that it is in."""
    return {
        "stages": {
            "clean": entry({}, {"data/clean": clean}, {"clean": 1}),
            "whole": entry({"data/clean": read_whole}, {"data/whole": "w"}),
            "part": entry({"data/clean/rows.parquet": read_part}, {}),
            "all": entry({"data": both}, {}),
        }
    }


BASE = lock("c1.dir", "c1.dir", "r1")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (BASE, {}),
        (lock("c2.dir", "c2.dir", "r2", "f2.dir"), {}),
        # Of the file in the folder the lock has no hash: perhaps it is the same.
        (lock("c2.dir", "c1.dir", "r1"), {"whole": "data/clean", "part": "data/clean/rows.parquet?", "all": "data"}),
    ],
)
def test_data_that_changed_upstream(tmp_path: Path, now: dict[str, Any], expected: dict[str, str]) -> None:
    assert stale_stages(now, BASE, {"clean": 1}, tmp_path) == expected


def test_the_data_is_looked_at_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "data/clean/rows.parquet"
    file.parent.mkdir(parents=True)
    file.write_text("rows")
    assert stale_stages(lock("c1.dir", "c1.dir", dvc_hash(file)), BASE, {"clean": 1}, tmp_path) == {}
    assert stale_stages(lock("c1.dir", "c1.dir", "r1"), BASE, {"clean": 1}, tmp_path) == {
        "part": str(file)[len(str(tmp_path)) + 1 :]
    }


def test_params_files_in_git_and_data_under_dvc(tmp_path: Path) -> None:
    (tmp_path / "corrections.csv").write_text("id\n")
    (tmp_path / "own.dvc").write_text("outs:\n- md5: o1.dir\n  path: own\n")
    deps = {"corrections.csv": dvc_hash(tmp_path / "corrections.csv"), "own": "o1.dir", "metrics/cost": "x"}
    now = {"stages": {"correct": entry(deps, {}, {"correct": {"a": None}, "seed": 1})}}
    assert stale_stages(now, None, {"correct": {"a": None}, "seed": 1}, tmp_path) == {}
    assert stale_stages(now, None, {"correct": {"a": None}, "seed": 2}, tmp_path) == {"correct": "params.yaml"}
    (tmp_path / "own.dvc").write_text("outs:\n- md5: o2.dir\n  path: own\n")
    assert stale_stages(now, None, {"correct": {"a": None}, "seed": 1}, tmp_path) == {"correct": "own"}
    (tmp_path / "corrections.csv").write_text("id\nx\n")
    assert stale_stages(now, None, {"correct": {"a": None}, "seed": 1}, tmp_path) == {"correct": "corrections.csv"}
    assert stale_stages(None, None, {}, tmp_path) == {}


def test_a_change_in_a_room_of_the_library_is_one_of_the_code(tmp_path: Path) -> None:
    for file in ("rules.py", "__pycache__/rules.pyc", "nested/a.py"):
        write_text(tmp_path / "assay/cleaning" / file, f"# {file}\n")
    # What DVC 3.67 writes for this folder.
    now = {"stages": {"clean": entry({"assay/cleaning": "ef49e9f6e43be74e6b2d43e8239b1f3b.dir"}, {})}}
    assert stale_stages(now, None, {}, tmp_path) == {}
    write_text(tmp_path / "assay/cleaning/nested/a.py", "# changed\n")
    assert stale_stages(now, None, {}, tmp_path) == {"clean": "assay/cleaning"}


def test_a_small_number_of_the_lock_is_a_number(tmp_path: Path) -> None:
    text = "stages:\n  full:\n    params:\n      params.yaml:\n        finetune.full: {learning_rate: 5e-06}\n"
    side = parsed({"dvc.lock": text, "params.yaml": "finetune:\n  full: {learning_rate: 0.000005}\n"})
    assert stale_stages(side.lock, None, side.params, tmp_path) == {}
    assert parsed({"dvc.lock": "stages: {"}).left_out == ["dvc.lock"]
