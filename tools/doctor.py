"""What this machine has, what is missing, and how to get it. Exit status 1 where something necessary is missing.

`make doctor`. Needs nothing but Python's standard library, of Python 3.8 or newer, so that it works where nothing is
installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path("requirements.lock")
UV = Path(sys.executable).with_name("uv")
MAIN_LIBRARIES = ("torch", "transformers", "peft", "trl", "textattack", "cleanlab", "polars", "scikit-learn", "dvc")
MIN_PYTHON = (3, 11)
MIN_FREE_DISK_GIB = 10
"""The packages take 3 GiB with a CPU build of PyTorch and 8 GiB with a CUDA build; data and models take 1 GiB."""
GIB = 2**30


def cores() -> int | None:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def device_lines() -> list[str]:
    """The devices that PyTorch sees, and a hint where the machine has one that it does not see."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [f"device: unknown, PyTorch cannot be imported ({error})"]
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    lines = [f"device: cuda {gpu.name}, {gpu.total_memory / GIB:.0f} GiB" for gpu in found]
    if found or not shutil.which("nvidia-smi"):
        return lines or ["device: cpu (no CUDA device)"]
    if torch.version.cuda is None:
        hint = f"PyTorch {torch.__version__} is a CPU build: unset PIP_FIND_LINKS, then `rm -rf .venv && make setup`"
    else:
        hint = f"PyTorch for CUDA {torch.version.cuda} sees no device: an old driver, or CUDA_VISIBLE_DEVICES empty?"
    return [f"device: cpu, though there is an NVIDIA driver (`nvidia-smi`): {hint}"]


def first_line(*command: str) -> str | None:
    """First line that a command prints, None where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode("utf-8", "replace").strip().split("\n")[0] if done.returncode == 0 else None


def checkout_problems(python: tuple[int, ...], git: str | None, free_gib: float) -> list[tuple[bool, str]]:
    """What is missing of the machine and of the checkout in this folder, as (necessary, sentence)."""
    old = "Python {}.{} is too old: install 3.11 or newer, then `make setup PYTHON=…`".format(*python)
    cloned = git is None or first_line("git", "rev-parse", "--git-dir") is not None
    problems = [
        (python < MIN_PYTHON, True, old),
        (git is None, True, "git is missing, and DVC needs it: `sudo apt-get install git`, or https://git-scm.com"),
        (not cloned, True, "this folder is no git repository: clone it, or `git init && git add . && git commit`"),
        (not Path(".dvc").is_dir(), True, "DVC is not initialised: `make setup`"),
        (not LOCK.is_file(), True, f"{LOCK} is missing: `git checkout {LOCK}`"),
        (free_gib < MIN_FREE_DISK_GIB, False, f"{free_gib:.1f} GiB of disk are free, {MIN_FREE_DISK_GIB} are advised"),
    ]
    return [(is_necessary, sentence) for is_so, is_necessary, sentence in problems if is_so]


def library_problems() -> list[tuple[bool, str]]:
    """What is installed beside what the lock has, as (necessary, sentence). uv tells, from this machine alone."""
    if not UV.is_file():
        return [(True, "libraries are not installed: `make setup`")]
    command = [str(UV), "pip", "install", "--dry-run", "--offline", "--no-deps", "--python", sys.executable]
    done = subprocess.run([*command, "-r", str(LOCK)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode("utf-8", "replace")
    # Without the network uv may not find what it would install; then it says what that is in a sentence.
    wrong = re.findall(r"^ \+ (.+)", said, re.MULTILINE)
    if done.returncode:
        wrong = [said.rpartition("cause:")[2].split("\n\n")[0].strip()]
    sentence = "missing or not as locked: {}; `rm -f .venv/.installed; make setup` installs them"
    return [(True, sentence.format(", ".join(wrong)))] if wrong else []


def params_problems() -> list[tuple[bool, str]]:
    """What is wrong with `params.yaml`, as (necessary, sentence)."""
    try:
        from assay.core.params import PARAMS_FILE
        from tools.params.check import find_problems
    # An old Python, or no packages.
    except (ImportError, OSError, SyntaxError) as error:
        return [(False, f"params.yaml could not be checked, since packages are missing: {error}")]
    try:
        return [(True, f"{PARAMS_FILE}: {problem}") for problem in find_problems(PARAMS_FILE)]
    except ValueError as error:
        return [(True, str(error))]


def pipeline_lock_problems() -> list[tuple[bool, str]]:
    """Entries that `dvc.lock` has lost because a process was killed while it wrote, as (necessary, sentence)."""
    try:
        from tools.run.lock_guard import inspect_lock
    except ImportError:
        return []
    cut = inspect_lock()[0] if shutil.which("git") else []
    return [(True, "dvc.lock was cut short, at {}: `make repro` restores it".format(", ".join(cut)))] if cut else []


def main() -> None:
    """Print what is there, then what is missing."""
    free_gib = shutil.disk_usage(".").free / GIB
    tools = {name: first_line(path, "--version") for name, path in (("git", "git"), ("make", "make"), ("uv", str(UV)))}
    installed = {str(one.metadata["Name"]).lower(): one.version for one in importlib.metadata.distributions()}

    print(f"Python: {platform.python_version()} ({sys.executable})")
    print(f"system: {platform.platform()}, cores: {cores()}, free disk: {free_gib:.0f} GiB")
    print(*(version or f"{name} is missing" for name, version in tools.items()), *device_lines(), sep="\n")
    print("libraries:", ", ".join(f"{name} {installed.get(name, 'not installed')}" for name in MAIN_LIBRARIES))
    problems = checkout_problems(sys.version_info[:2], tools["git"], free_gib)
    problems += library_problems() if LOCK.is_file() else []
    problems += params_problems() + pipeline_lock_problems()
    print("\nMissing:" if problems else "\nNothing is missing.")
    for necessary, sentence in problems:
        print("  {} {}".format("✗" if necessary else "!", sentence))
    sys.exit(1 if any(necessary for necessary, _ in problems) else 0)


if __name__ == "__main__":
    main()
