"""Python in a process of its own: with another hash seed, another number of threads, or memory to measure."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


def run_python(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the modules of the repository; the environment comes on top of this one's."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def measure(*arguments: str, cwd: Path | None = None, **environment: str) -> dict[str, Any]:
    """What Python printed last, as JSON."""
    found: dict[str, Any] = json.loads(run_python(*arguments, cwd=cwd, **environment).stdout.splitlines()[-1])
    return found
