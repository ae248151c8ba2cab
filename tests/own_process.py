"""Stages and tools as commands: in this process, or in one of its own with other variables or memory to measure."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]


def run_main(module: Any, *arguments: str) -> None:
    """Run a stage or a tool in this process, with arguments as on a command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module.__name__, *arguments])
        module.main()


def git(*arguments: str, cwd: Path | None = None) -> str:
    """What a git command prints; commits have an author, whatever the machine's settings are."""
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def commit_all(folder: Path | None = None) -> None:
    """Make a folder a repository with an author, if it is none, and commit all that is in it."""
    author = (["config", "user.name", "t"], ["config", "user.email", "t@example.org"])
    commands = (["init", "--quiet", "--initial-branch=main"], *author, ["add", "--all"], ["commit", "-qm", "all"])
    for command in commands:
        git(*command, cwd=folder)


def read_blocks(page: str, name: str) -> list[str]:
    """The shell blocks of a page below docs/, between the markers of a name."""
    marked = (REPOSITORY / "docs" / page).read_text(encoding="utf-8").split(f"<!-- {name}:")[1]
    return re.findall(r"```sh\n(.*?)```", marked.split(f"<!-- /{name} -->")[0], flags=re.DOTALL)


def run_shell(commands: str, before: str = "") -> str:
    """What commands print in the current folder; the first that fails ends them. `before` may define functions."""
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | who | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = ["bash", "-euo", "pipefail", "-c", before + commands]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_python(
    *arguments: str, cwd: Path | None = None, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with the modules of the repository, to this exit status; the environment is added to this one's."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


def peak_mib() -> float:
    """The most memory that this process had. Not `ru_maxrss`: one that a large one starts takes over its peak."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def measure(*arguments: str, cwd: Path | None = None, **environment: str) -> dict[str, Any]:
    """What Python printed last, as JSON."""
    measured: dict[str, Any] = json.loads(
        run_python(*arguments, cwd=cwd, status=0, **environment).stdout.splitlines()[-1]
    )
    return measured
