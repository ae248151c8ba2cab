"""What this machine has, what is missing, and how to get it. Exit status 1 where something necessary is missing.

`make doctor`. Needs nothing but Python's standard library, of Python 3.7 or newer, so that it works where nothing is
installed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ABSENT = "–"
LOCK = Path("requirements.lock")
MAIN_LIBRARIES = (
    *("accelerate", "bitsandbytes", "cleanlab", "dvc", "nltk", "peft", "polars", "pydantic"),
    *("scikit-learn", "textattack", "torch", "transformers"),
)
MIN_PYTHON = (3, 11)
MIN_FREE_DISK_GIB = 10
"""The packages take 3 GiB with a CPU build of PyTorch and 8 GiB with a CUDA build; data and models take 1 GiB."""
MIN_MEMORY_GIB = 4
GIB = 2**30
CALIBRATION = Path(".dvc/tmp/calibrate.json")
"""What `make calibrate` measured."""
MIN_GAIN = 1.3
"""A setting of `compute` that is this many times as fast is worth a change."""


def locked_versions(text: str) -> dict[str, list[str]]:
    """Package → versions that the lock allows; more than one where they depend on the Python version."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\n]+)", text, flags=re.MULTILINE):
        versions.setdefault(name.lower().replace("_", "-"), []).append(version)
    return versions


def library_problem(installed: str | None, locked: list[str] | None) -> str | None:
    """What is wrong with one library, None where nothing is. A local part, such as +cpu, is the same release."""
    if installed is None:
        return "not installed"
    if locked and installed.split("+")[0] not in locked:
        return "the lock has " + " or ".join(locked)
    return None


def installed_version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def memory_gib() -> float | None:
    """Memory of the machine, or of the container if that is less; None where it cannot be told."""
    sizes = []
    # Windows has no sysconf, and a machine without a limit no number in the file.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(sizes) / GIB if sizes else None


def cores() -> int | None:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def fastest_setting(rows: list[dict[str, Any]], precision: str, threads: int) -> tuple[dict[str, Any], float]:
    """Of the measurements of `make calibrate` the one that trains most rows per second, and its gain over a setting.

    Compared are processes side by side, as many as there is room for with that many threads. A setting that was not
    measured has a gain of 1.
    """
    most: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:  # of one setting, the one with more processes comes later
        most[row["precision"], row["threads"]] = row
    best = max(most.values(), key=lambda row: row["rows_per_second"])
    now = most.get((precision, threads), best)
    return best, best["rows_per_second"] / now["rows_per_second"]


def calibration_line(root: Path) -> str:
    """What the last `make calibrate` says of the `compute` in params.yaml."""
    try:
        rows = json.loads((root / CALIBRATION).read_text(encoding="utf-8"))["rows"]
        params = (root / "params.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError):
        return "compute: not measured on this machine; `make calibrate` says which precision and threads are fastest"
    # By patterns: there may be no parser of YAML yet.
    block = params.partition("\ncompute:")[2]
    precision = re.search(r"^  precision: (\w+)", block, flags=re.MULTILINE)
    threads = re.search(r"^  threads: (\d+)", block, flags=re.MULTILINE)
    if precision is None or threads is None:
        return "compute: params.yaml has no `compute.precision` and `compute.threads`"
    best, gain = fastest_setting(rows, precision.group(1), int(threads.group(1)))
    now = f"compute: {precision.group(1)}, {threads.group(1)} thread(s)"
    if gain < MIN_GAIN:
        return f"{now}: no setting is {MIN_GAIN} times as fast"
    return "{}: {precision} with {threads} thread(s) is {:.1f} times as fast; `make calibrate` writes it".format(
        now, gain, **best
    )


def device_lines() -> list[str]:
    """The device that PyTorch sees, and a hint where the machine has one that it does not see."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [f"device: unknown, PyTorch cannot be imported ({error})"]
    if torch.cuda.is_available():
        lines = []
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            bfloat16 = "yes" if torch.cuda.is_bf16_supported() else "no"
            memory = f"{properties.total_memory / GIB:.0f} GiB"
            lines.append(f"device: cuda:{number} {properties.name}, {memory}, bfloat16 {bfloat16}")
        return lines
    lines = ["device: cpu (no CUDA device)"]
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        lines.append(
            f"  this machine has an NVIDIA driver, but PyTorch {torch.__version__} is a CPU build: "
            "unset PIP_FIND_LINKS, then `rm -rf .venv && make setup`"
        )
    elif shutil.which("nvidia-smi"):
        lines.append(
            f"  PyTorch is built for CUDA {torch.version.cuda}, and sees no device: "
            "is the driver new enough (`nvidia-smi`)? is CUDA_VISIBLE_DEVICES empty?"
        )
    return lines


def first_line(*command: str) -> str | None:
    """First line that a command prints, None where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode("utf-8", "replace").strip().split("\n")[0] if done.returncode == 0 else None


def machine_problems(
    python: tuple[int, int], git: str | None, free_gib: float, memory: float | None
) -> list[tuple[bool, str]]:
    """What is missing of the machine itself, as (necessary, sentence)."""
    problems = []
    if python < MIN_PYTHON:
        problems.append(
            (True, "Python {}.{} is too old: install 3.11 or newer, then `make setup PYTHON=…`".format(*python))
        )
    if git is None:
        problems.append((True, "git is missing, and DVC needs it: `sudo apt-get install git`, or https://git-scm.com"))
    if free_gib < MIN_FREE_DISK_GIB:
        problems.append((False, f"{free_gib:.1f} GiB of disk are free, {MIN_FREE_DISK_GIB} GiB are advised"))
    if memory is not None and memory < MIN_MEMORY_GIB:
        problems.append((False, f"{memory:.1f} GiB of memory, {MIN_MEMORY_GIB} GiB are advised"))
    return problems


def repository_problems(root: Path, has_git_repository: bool) -> list[tuple[bool, str]]:
    """What is missing of the checkout, as (necessary, sentence)."""
    problems = []
    if not has_git_repository:
        problems.append(
            (True, "this folder is no git repository: clone it with git, or `git init && git add . && git commit`")
        )
    if not (root / ".dvc").is_dir():
        problems.append((True, "DVC is not initialised: `make setup`"))
    if not (root / LOCK).is_file():
        problems.append((True, f"{LOCK} is missing: `git checkout {LOCK}`"))
    return problems


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
    root = Path()
    python = sys.version_info[:2]
    free_gib = shutil.disk_usage(str(root)).free / GIB
    memory = memory_gib()
    git = first_line("git", "--version")

    print(f"Python: {platform.python_version()} ({sys.executable})")
    print(f"system: {platform.platform()}")
    shown = "unknown" if memory is None else f"{memory:.1f} GiB"
    print(f"cores: {cores()}, memory: {shown}, free disk: {free_gib:.0f} GiB")
    for line in device_lines():
        print(line)
    print(calibration_line(root))
    print("git: {}".format((git or "missing").replace("git version ", "")))
    print("libraries:")
    locked = locked_versions((root / LOCK).read_text(encoding="utf-8")) if (root / LOCK).is_file() else {}
    wrong = []
    for name in MAIN_LIBRARIES:
        version = installed_version(name)
        problem = library_problem(version, locked.get(name))
        print("  {:<14} {}{}".format(name, version or ABSENT, "  ← " + problem if problem else ""))
        if problem:
            wrong.append(name)

    problems = machine_problems(python, git, free_gib, memory)
    if git is not None:
        problems += repository_problems(root, first_line("git", "rev-parse", "--git-dir") is not None)
    problems += params_problems()
    problems += pipeline_lock_problems()
    if wrong:
        sentence = "missing or not as locked: {}; `rm -f .venv/.installed; make setup` installs them"
        problems.append((True, sentence.format(", ".join(wrong))))
    if not problems:
        print("\nNothing is missing.")
    else:
        print("\nMissing:")
        for necessary, sentence in problems:
            print("  {} {}".format("✗" if necessary else "!", sentence))
    sys.exit(1 if any(necessary for necessary, _ in problems) else 0)


if __name__ == "__main__":
    main()
