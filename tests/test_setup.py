"""The lock is complete and names no address, and two commands do their own set-up."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.own_cases import read_cases
from tools.run.set_up import uv_variables

CASES = read_cases(__file__)


@pytest.fixture(scope="module")
def lock(repository: Path) -> list[Requirement]:
    lines = (repository / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line.removesuffix("\\")) for line in lines if not line.startswith(("#", " "))]


def direct_dependencies(repository: Path) -> list[Requirement]:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(line) for line in project["project"]["dependencies"] + project["dependency-groups"]["dev"]]


def test_lock_holds_pins_with_hashes_and_no_address(repository: Path, lock: list[Requirement]) -> None:
    text = (repository / "requirements.lock").read_text(encoding="utf-8")
    pins = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    line = r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( ; [^\n/@\\]+)?"
    assert re.fullmatch(rf"({line}( \\\n    --hash=sha256:[0-9a-f]{{64}})+\n|torch==[0-9.]+\n)+", pins)
    assert len(pins.splitlines()) == len(lock) + pins.count("--hash")


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
    for name in (
        *("Makefile", "requirements.lock", "pyproject.toml"),
        *("tools/run/set_up.py", "assay/sources/pip_settings.py"),
    ):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((repository / name).read_bytes())
    return target


def fake_python(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "message"), CASES["a_python_that_will_not_do_is_a_clear_error"], ids=["old", "missing", "without venv"]
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


def write_wheel(folder: Path, name: str, version: str, code: str = "") -> str:
    """Write a package of one module, and return its pin with its hash as a lock has it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr(f"{name}/__main__.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


@pytest.mark.slow
def test_set_up_verifies_hashes_and_goes_on_where_it_stopped(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    checkout = fresh_checkout(repository, tmp_path)
    (checkout / ".dvc").mkdir()
    real_uv = str(Path(sys.executable).with_name("uv"))
    uv = write_wheel(links, "uv", "1.0", f"import os, sys\nos.execv({real_uv!r}, ['uv', *sys.argv[1:]])\n")
    old, new = write_wheel(links, "alpha", "1.0"), write_wheel(links, "alpha", "2.0")
    write_wheel(links, "torch", "2.0+cpu")
    # Pip alone is told where packages are.
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    for name, value in (settings | {"UV_CACHE_DIR": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)

    def set_up(alpha: str) -> subprocess.CompletedProcess[str]:
        (checkout / "requirements.lock").write_text(f"# made\n{alpha}torch==2.0\n{uv}", encoding="utf-8")
        return make(checkout, "setup", f"PYTHON={sys.executable}")

    first = set_up(old.replace("1.0", "2.0"))
    assert first.returncode != 0
    assert "Installing up to 3 packages into .venv, with the CPU build of PyTorch" in first.stdout
    assert "alpha" in first.stderr
    assert "the package index serves another file" in first.stderr
    assert not (checkout / ".venv/.installed").exists()
    assert set_up(old).returncode == 0
    (checkout / ".venv/.installed").touch()
    assert make(checkout, "setup").stdout == ".venv is ready\n"
    assert set_up(new).returncode == 0
    installed = {path.name for path in (checkout / ".venv").glob("lib/python*/site-packages/*.dist-info")}
    assert {"alpha-2.0.dist-info", "torch-2.0+cpu.dist-info", "uv-1.0.dist-info"} <= installed
    assert "alpha-1.0.dist-info" not in installed


def test_uv_is_told_what_pip_is_configured_with(tmp_path: Path) -> None:
    pip = {
        "index-url": "https://mirror/simple",
        "extra-index-url": "\nhttps://a/simple\nhttps://b/simple",
        "find-links": f"{tmp_path} {tmp_path}/absent https://c/files",
        "cert": "/certificates.pem",
        "default-timeout": "180",
        "no-index": "false",
    }
    assert uv_variables(pip, {"PATH": "/bin", "SSL_CERT_FILE": "/own.pem"}) == {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path},https://c/files",
        "UV_HTTP_TIMEOUT": "180",
        "SSL_CERT_FILE": "/own.pem",
        "PATH": "/bin",
    }
    assert uv_variables({"no-index": "1"}, {}) == {"UV_NO_INDEX": "1"}


def test_workflows_run_pinned_actions_with_no_more_rights_than_they_need(repository: Path) -> None:
    for path in (repository / ".github/workflows").glob("*"):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {}
        for job in workflow["jobs"].values():
            steps, rights = [step.get("uses", "") for step in job["steps"]], set(job["permissions"].values())
            assert [one for one in steps if one and not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one)] == []
            checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
            assert all(step["with"]["persist-credentials"] is False for step in checkouts)
            # Who may write runs nothing that a pull request brings.
            assert rights == {"read"} or not checkouts


def test_build_machine_runs_what_the_readme_says(repository: Path) -> None:
    script = (repository / ".ci/run").read_text(encoding="utf-8")
    assert [line for line in script.splitlines() if "make" in line] == ["make test", "exec make test-slow"]
    assert os.access(repository / ".ci/run", os.X_OK)
