"""The doctor works where nothing is installed, and says what is missing."""

from pathlib import Path
from typing import Any

import pytest

from assay.core.outputs import write_json
from tests.own_process import run_python
from tools import doctor


def test_runs_without_any_package(repository: Path) -> None:
    # -S: no site-packages; -I: no environment, no current folder.
    done = run_python("-I", "-S", "tools/doctor.py", cwd=repository, status=1)
    assert done.stderr == ""
    assert "PyTorch cannot be imported" in done.stdout
    assert "not installed" in done.stdout
    assert "make setup` installs them" in done.stdout


def test_here_nothing_is_wrong_with_the_libraries(repository: Path) -> None:
    locked = doctor.locked_versions((repository / "requirements.lock").read_text())
    problems = {
        name: doctor.library_problem(doctor.installed_version(name), locked.get(name)) for name in doctor.MAIN_LIBRARIES
    }
    assert problems == dict.fromkeys(doctor.MAIN_LIBRARIES)


def measured(precision: str, threads: int, processes: int, rows_per_second: float) -> dict[str, Any]:
    return {"precision": precision, "threads": threads, "processes": processes, "rows_per_second": rows_per_second}


@pytest.mark.parametrize(
    ("compute", "says"),
    [
        (
            "precision: bfloat16\n  threads: 2",
            "float32 with 1 thread(s) is 1.5 times as fast; `make calibrate` writes it",
        ),
        ("precision: float32 # why\n  threads: 1", "compute: float32, 1 thread(s): no setting is 1.3 times as fast"),
        ("precision: float32\n  threads: 64", "compute: float32, 64 thread(s): no setting is 1.3 times as fast"),
        ("device: cpu", "compute: params.yaml has no `compute.precision`"),
    ],
)
def test_what_the_last_calibration_says_of_params(tmp_path: Path, compute: str, says: str) -> None:
    (tmp_path / "params.yaml").write_text(f"seed: 1\ncompute:\n  {compute}\n")
    assert "not measured on this machine; `make calibrate`" in doctor.calibration_line(tmp_path)
    rows = [measured("float32", 1, 1, 60), measured("float32", 1, 2, 105), measured("bfloat16", 2, 1, 70)]
    write_json(tmp_path / doctor.CALIBRATION, {"device": "cpu", "rows": rows})
    assert says in doctor.calibration_line(tmp_path)


def test_locked_versions() -> None:
    text = (
        "# comment\nnumpy==2.4.6 ; python_version < '3.12'\nnumpy==2.5.5 ; python_version >= '3.12'\nZc_Lockfile==4.0\n"
    )
    assert doctor.locked_versions(text) == {"numpy": ["2.4.6", "2.5.5"], "zc-lockfile": ["4.0"]}


@pytest.mark.parametrize(
    ("installed", "expected"),
    [("2.13.0+cpu", None), ("2.13.0", None), ("2.12.0", "the lock has 2.13.0"), (None, "not installed")],
)
def test_library_problem(installed: str | None, expected: str | None) -> None:
    assert doctor.library_problem(installed, ["2.13.0"]) == expected


def test_machine_problems() -> None:
    assert doctor.machine_problems((3, 11), "2.39", 50, 8) == []
    assert doctor.machine_problems((3, 12), "2.39", 50, None) == []
    old, no_git, disk, memory = doctor.machine_problems((3, 9), None, 1, 2)
    assert old == (True, "Python 3.9 is too old: install 3.11 or newer, then `make setup PYTHON=…`")
    assert no_git[0]
    assert disk == (False, "1.0 GiB of disk are free, 10 GiB are advised")
    assert memory[0] is False


def test_a_lock_that_was_cut_is_named() -> None:
    entry = "  {}:\n    cmd: go\n    outs:\n    - path: {}\n      hash: md5\n      md5: 0\n      size: 1\n"
    whole = f"schema: '2.0'\nstages:\n{entry.format('a', 'a')}{entry.format('b', 'b')}"
    Path("dvc.yaml").write_text("stages:\n  a:\n    cmd: go\n  b:\n    cmd: go\n")
    Path(".dvc/tmp/repro").mkdir(parents=True)
    Path(".dvc/tmp/repro/dvc.lock").write_text(whole)
    for text, expected in ((whole, []), (whole[:-3], ["b"]), (whole[:40], ["a", "b"])):
        Path("dvc.lock").write_text(text)
        problems = [(True, f"dvc.lock was cut short, at {', '.join(expected)}: `make repro` restores it")]
        assert doctor.pipeline_lock_problems() == (problems if expected else [])


def test_repository_problems(tmp_path: Path) -> None:
    sentences = [sentence for _, sentence in doctor.repository_problems(tmp_path, has_git_repository=False)]
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "this folder is no git repository",
        "DVC is not initialised",
        "requirements.lock is missing",
    ]
