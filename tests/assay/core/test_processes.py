import contextlib
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.own_process import REPOSITORY

WAITING = """
import sys, time
from assay.core.errors import run_stage
def main():
    print("started", flush=True)
    time.sleep(60)
run_stage(main)
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stage that takes long, and a project to run it in."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/waiting.py").write_text(WAITING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return [sys.executable, "stages/waiting.py"]


def test_a_second_run_of_a_stage_says_so_until_the_first_is_gone(stage: list[str]) -> None:
    for _ in range(2):
        with subprocess.Popen([*stage, "a"], stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "started\n"
            second = subprocess.run([*stage, "a"], capture_output=True, text=True, check=False)
            said = rf"error: waiting@a is running here already: process {first.pid}, since [\d:]{{8}}; wait for .*\n"
            assert (second.returncode, second.stdout) == (1, "")
            assert re.fullmatch(said, second.stderr)
            with subprocess.Popen([*stage, "b"], stdout=subprocess.PIPE, text=True) as other:
                assert other.stdout is not None
                assert other.stdout.readline() == "started\n"
                other.kill()
            first.kill()


@pytest.mark.parametrize("killed", ["terminal", "make repro", "dvc", "shell"])
def test_a_stage_ends_with_the_run_that_started_it_and_not_with_the_terminal(stage: list[str], killed: str) -> None:
    Path("level").write_text(f'if [ $1 ]; then one=$1; shift; env $one sh level "$@"; else {" ".join(stage)}; fi; true')
    levels = ["sh", "level", "AS_ALWAYS=1", "ASSAY_REPRO=here", "DVC_STAGE=waiting"]
    with subprocess.Popen(levels, stdout=subprocess.PIPE, text=True) as terminal:
        assert terminal.stdout is not None
        assert terminal.stdout.readline() == "started\n"
        repro, dvc, shell, last = psutil.Process(terminal.pid).children(recursive=True)
        {"terminal": terminal, "make repro": repro, "dvc": dvc, "shell": shell}[killed].kill()
        _, running = psutil.wait_procs([last], timeout=3 if killed == "terminal" else 30)
        assert bool(running) is (killed == "terminal")
        for one in (terminal, repro, dvc, shell, last):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
