"""The doctor works where nothing is installed, and says what is missing."""

from pathlib import Path

import pytest

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


def test_what_is_missing_of_machine_and_checkout() -> None:
    problems = doctor.checkout_problems((3, 9), None, 1)
    assert [(is_necessary, sentence.split(":")[0]) for is_necessary, sentence in problems] == [
        (True, "Python 3.9 is too old"),
        (True, "git is missing, and DVC needs it"),
        (True, "DVC is not initialised"),
        (True, "requirements.lock is missing"),
        (False, "1.0 GiB of disk are free, 10 are advised"),
    ]
    assert [sentence.split(":")[0] for _, sentence in doctor.checkout_problems((3, 12), "2.39", 50)] == [
        "this folder is no git repository",
        "DVC is not initialised",
        "requirements.lock is missing",
    ]


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
