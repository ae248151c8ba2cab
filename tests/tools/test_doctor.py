"""The doctor works where nothing is installed, and says what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import doctor


def test_runs_without_any_package(repository: Path) -> None:
    # Of the Python below the environment. -S: no site-packages; -I: no environment variables, no current folder.
    command = [str(Path(sys.base_prefix) / "bin/python3"), "-I", "-S", "tools/doctor.py"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "PyTorch cannot be imported" in done.stdout
    assert "torch not installed" in done.stdout
    assert "`make setup`" in done.stdout


def test_installed_versions_are_compared_with_the_lock() -> None:
    doctor.LOCK.write_text(f"pytest=={pytest.__version__}\n")
    assert doctor.library_problems() == []
    doctor.LOCK.write_text("pytest==1.0.0\n")
    ((is_necessary, sentence),) = doctor.library_problems()
    assert is_necessary
    assert sentence.startswith("missing or not as locked: ")
    assert "pytest==1.0.0" in sentence


def test_without_uv_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "UV", Path("uv"))
    assert doctor.library_problems() == [(True, "libraries are not installed: `make setup`")]


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
