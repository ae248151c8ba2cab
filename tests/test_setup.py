"""The lock is complete and names no address, and two commands do their own set-up."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def lock(repository: Path) -> list[Requirement]:
    lines = (repository / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def direct_dependencies(repository: Path) -> list[Requirement]:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(line) for line in project["project"]["dependencies"] + project["dependency-groups"]["dev"]]


def test_lock_holds_nothing_but_pins(repository: Path, lock: list[Requirement]) -> None:
    text = (repository / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert re.search(r"^\s*-|@|/|\+", re.sub(r"^#.*$", "", text, flags=re.MULTILINE), flags=re.MULTILINE) is None
    assert [str(pin) for pin in lock if not re.fullmatch(r"==[^*]+", str(pin.specifier))] == []


def test_every_direct_dependency_is_pinned_within_its_bounds(repository: Path, lock: list[Requirement]) -> None:
    pins: dict[str, list[str]] = {}
    for pin in lock:
        pins.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    for wanted in direct_dependencies(repository):
        versions = pins.get(canonicalize_name(wanted.name), [])
        assert versions, f"{wanted.name} is not in requirements.lock; run `make lock`"
        assert [version for version in versions if version not in wanted.specifier] == [], f"{wanted}; run `make lock`"


def test_lock_leaves_out_what_must_not_be_installed(lock: list[Requirement]) -> None:
    names = {canonicalize_name(pin.name) for pin in lock}
    assert "flair" not in names
    assert {name for name in names if name.startswith(("nvidia-", "cuda-", "triton"))} == set()


def test_torch_is_one_pin_for_every_build(lock: list[Requirement]) -> None:
    (torch,) = [pin for pin in lock if pin.name == "torch"]
    assert torch.marker is None
    assert "+" not in str(torch.specifier)


def test_every_pin_of_this_python_is_installed(lock: list[Requirement]) -> None:
    from importlib.metadata import version

    wrong = {
        pin.name: version(pin.name)
        for pin in lock
        if (pin.marker is None or pin.marker.evaluate()) and version(pin.name).split("+")[0] not in pin.specifier
    }
    assert wrong == {}


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a terminal, though the tests may themselves run below `make test`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_help_lists_every_target(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    targets = phony[1].split()
    done = make(repository)
    assert re.findall(r"^  make (\S+)", done.stdout, flags=re.MULTILINE) == re.findall(
        r"^([a-z-]+):", makefile, flags=re.MULTILINE
    )
    assert sorted(targets) == sorted(re.findall(r"^  make (\S+)", done.stdout, flags=re.MULTILINE))


def fresh_checkout(repository: Path, target: Path) -> Path:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (target / name).write_bytes((repository / name).read_bytes())
    return target


def fake_python(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            'case "$1" in --version) echo "Python 3.9.1";; *) exit 1;; esac',
            "{} is Python 3.9.1, and 3.11 or newer is needed",
        ),
        (None, "no {} on PATH"),
        ('case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac', "apt-get install python3-venv"),
    ],
    ids=["old", "missing", "without venv"],
)
def test_a_python_that_will_not_do_is_a_clear_error(
    script: str | None, message: str, repository: Path, tmp_path: Path
) -> None:
    checkout = fresh_checkout(repository, tmp_path)
    python = str(fake_python(tmp_path, script)) if script else "no-such-python"
    done = make(checkout, "test", f"PYTHON={python}")
    assert done.returncode != 0
    assert message.format(python) in done.stderr
    assert not (checkout / ".venv").exists()


def test_set_up_that_was_cut_short_is_taken_up_again(repository: Path, tmp_path: Path) -> None:
    checkout = fresh_checkout(repository, tmp_path)
    # A Python whose third installation fails, as when the network goes.
    log = tmp_path / "log"
    fake = tmp_path / "fake"
    fake.mkdir()
    python = fake_python(
        fake,
        f'case "$*" in\n'
        f'  "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;\n'
        f'  "-m pip --version") exit 0;;\n'
        f'  "-m pip install"*) echo "$*" >> {log}; case "$*" in *--no-deps*) test -e {tmp_path}/network;; esac;;\n'
        f"esac",
    )
    command = ["setup", f"PYTHON={python}"]
    (checkout / ".dvc").mkdir()

    first = make(checkout, *command)
    assert first.returncode != 0
    assert not (checkout / ".venv/.installed").exists()
    (tmp_path / "network").touch()
    second = make(checkout, *command)
    assert second.returncode == 0, second.stderr
    assert (checkout / ".venv/.installed").exists()
    installs = log.read_text(encoding="utf-8").splitlines()
    assert len(installs) == 6
    assert "torch==" in installs[1]
    assert "--constraint requirements.lock" in installs[1]
    assert "--no-deps --requirement requirements.lock" in installs[2]
    third = make(checkout, *command)
    assert third.stdout == ".venv is ready\n"
    assert len(log.read_text(encoding="utf-8").splitlines()) == 6


def test_build_machine_runs_what_the_readme_says(repository: Path) -> None:
    script = (repository / ".ci/run").read_text(encoding="utf-8")
    assert [line for line in script.splitlines() if "make" in line] == ["exec make test"]
    assert os.access(repository / ".ci/run", os.X_OK)
