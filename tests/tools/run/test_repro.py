"""`make repro` on small pipelines of shell commands: order, cut-off, failures, kills, and a whole `dvc.lock`."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
import zc.lockfile

from tests.own_process import git
from tools.params import check
from tools.run import repro

pytestmark = pytest.mark.timeout(1800)


def stage(name: str, command: str, *deps: str) -> dict[str, Any]:
    return {"cmd": command, "deps": ["in.txt", *deps], "outs": [f"{name}.txt"]}


def diamond() -> dict[str, Any]:
    """a, then b and c beside each other, then d; and e apart."""
    return {
        "a": stage("a", "sort in.txt | head -n 2 > a.txt"),
        "c": stage("c", "sleep 0.1; (cat a.txt; echo c) > c.txt", "a.txt"),
        "b": stage("b", "(cat a.txt; echo b) > b.txt", "a.txt"),
        "d": {"cmd": "cat b.txt c.txt > d.txt", "deps": ["b.txt", "c.txt"], "outs": ["d.txt"]},
        "e": stage("e", "cat in.txt > e.txt"),
    }


def write_project(folder: Path, stages: dict[str, Any]) -> Path:
    (folder / "params.yaml").write_text("compute: {threads: 1, processes: auto, device: cuda}\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (folder / "in.txt").write_text("1\n2\n")
    git("init", "-q", cwd=folder)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    (folder / check.FOUND_RIGHT).write_text(check.digest(folder / "params.yaml"))
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    code = "from tools.run import repro; repro.STATUS_SECONDS = 0.5; repro.run_stage(repro.main)"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(repro.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *arguments: str, status: int = 0) -> str:
    process = start(folder, *arguments)
    output = process.communicate()[0]
    assert process.returncode == status, output
    return output


def started(output: str) -> list[str]:
    return re.findall(r"^(\S+) │ > ", output, flags=re.MULTILINE)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [folder / "dvc.lock", *sorted(folder.glob("?.txt"))]}


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The diamond, after a run of one job at a time."""
    folder = write_project(tmp_path_factory.mktemp("finished"), diamond())
    assert "Stages: 5 run, 0 up to date, 0 failed, 0 not run" in run(folder, "--jobs", "1")
    return folder


@pytest.fixture(scope="module")
def expected(finished: Path) -> dict[str, bytes]:
    return contents(finished)


def test_two_jobs_leave_the_same_bytes_in_the_order_of_the_pipeline(tmp_path: Path, expected: dict[str, bytes]) -> None:
    folder = write_project(tmp_path, diamond())
    order = started(run(folder, "--jobs", "2"))
    assert order[-1] == "d" or order.index("d") > max(order.index("b"), order.index("c")) > order.index("a")
    assert contents(folder) == expected
    assert re.findall(r"^  (\w):", expected["dvc.lock"].decode(), flags=re.MULTILINE) == list("acbde")
    assert started(run(folder)) == []


@pytest.mark.parametrize(("devices", "shares"), [("7,8,9", ["1 7\n", "1 8\n"]), ("0,1,2,3", ["1 0,1\n", "1 2,3\n"])])
def test_two_stages_run_beside_each_other_each_with_its_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: str, shares: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    # Each waits for the other: one at a time, both fail.
    write = "sleep 1 && echo $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES > {0}.txt"
    wait = f"touch {{0}}.on; for i in $(seq 300); do test -e {{1}}.on && {write} && exit 0; sleep 0.1; done; exit 1"
    stages = {name: stage(name, wait.format(name, other)) | {"params": ["compute"]} for name, other in ("ab", "ba")}
    folder = write_project(tmp_path, stages | {"c": stage("c", "sort a.txt > c.txt", "a.txt")})
    output = run(folder, "--jobs", "2")
    assert re.search(r"\n[ab] \d of \? s, [ab] \d of \? s; 1 wait; by last times \d s left, 3 never ran here", output)
    assert sorted((folder / f"{name}.txt").read_text() for name in "ab") == shares


def test_what_comes_after_a_stage_whose_output_stays_is_not_started(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "clone")
    stages = diamond()
    stages["b"]["deps"] = stages["c"]["deps"] = ["a.txt"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    run(folder)
    (folder / "in.txt").write_text("1\n2\n3\n")
    output = run(folder)
    assert sorted(started(output)) == ["a", "e"]
    assert "Stages: 2 run, 3 up to date, 0 failed, 0 not run" in output


def test_a_failure_stops_what_depends_on_it_alone(tmp_path: Path) -> None:
    b = stage("b", "printf '10%%\\r100%%\\n'; echo out of luck; exit 3", "a.txt")
    folder = write_project(tmp_path, diamond() | {"b": b})
    output = run(folder, status=1)
    for line in ("Stages: 3 run, 0 up to date, 1 failed, 1 not run;", "b failed: out of luck\n", 'ARGS="b"`\n'):
        assert line in output
    assert "b │ 100%\n" in output
    assert not re.search("10%\r|Running stage|To track|git add", output)
    assert sorted(path.name for path in folder.glob("?.txt")) == ["a.txt", "c.txt", "e.txt"]


def test_targets_force_dry_and_options_of_dvc_that_are_not_there(finished: Path, expected: dict[str, bytes]) -> None:
    assert started(run(finished, "--force", "b")) == ["a", "b"]
    assert started(run(finished, "--force", "--single-item", "d")) == ["d"]
    (finished / "in.txt").write_text("2\n1\n")
    dry = run(finished, "--dry", "d")
    assert all(f"{name} would run\n" in dry for name in "abc")
    assert dry.endswith("d would run if what it needs comes out different\n")
    (finished / "in.txt").write_text("1\n2\n")
    assert "d up to date" in run(finished, "--dry", "d")
    assert contents(finished) == expected
    assert "for other options, `dvc repro`" in run(finished, "--glob", "a*", status=2)
    assert "error: DVC: " in run(finished, "nothing", status=1)
    assert "JOBS=0" in run(finished, "--jobs", "0", status=2)


def test_params_are_checked_before_and_results_printed_after(tmp_path: Path) -> None:
    folder = write_project(tmp_path, {"report": stage("a", "echo > a.txt")})
    assert "error: metrics/summary.json: `report` did not run on" in run(folder, status=1).partition("Stages: 1 run")[2]
    (folder / check.FOUND_RIGHT).unlink()
    assert run(folder, status=1).startswith("error: params.yaml: section `seed` is missing")


def test_a_second_run_says_who_runs_and_a_lock_that_another_dvc_holds_is_waited_for(tmp_path: Path) -> None:
    folder = write_project(tmp_path, {"a": stage("a", "touch on; while test -e on; do sleep 0.05; done; echo > a.txt")})
    process = start(folder)
    wait_for(folder / "on")
    assert f"`make repro` is running here already: process {process.pid}, since " in run(folder, status=1)
    lock = zc.lockfile.LockFile(folder / ".dvc/tmp/lock")
    (folder / "on").unlink()
    time.sleep(5)  # DVC by itself gives up after three
    lock.close()
    assert "Stages: 1 run" in process.communicate()[0]


@pytest.mark.parametrize("trap", ["", "trap '' INT; "])
def test_nothing_is_left_running_after_ctrl_c_or_a_second_one(tmp_path: Path, trap: str) -> None:
    folder = write_project(tmp_path, {"a": stage("a", f"{trap}touch on; sleep 600; echo > a.txt"), "b": diamond()["e"]})
    process = start(folder, "--jobs", "2")
    wait_for(folder / "on")
    process.send_signal(signal.SIGINT)
    if trap:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
    assert "Stopped; `make repro` goes on from here" in process.communicate()[0]
    assert process.returncode == 130
    there = [one.pid for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(folder)]
    assert there == [os.getpid()]  # that of the test


def test_what_a_kill_has_left_running_is_ended_by_the_next_run(tmp_path: Path) -> None:
    folder = write_project(tmp_path, {"a": stage("a", "echo $$ > pid; touch on; sleep 600; echo > a.txt")})
    process = start(folder)
    wait_for(folder / "on")
    process.kill()
    (folder / ".dvc/tmp/rwlock").write_text('{"write": {"/a": {"pi')
    command = psutil.Process(int((folder / "pid").read_text()))
    assert re.match(r"ended \d processes that a killed `make repro` has left\na would run", run(folder, "--dry"))
    assert not command.is_running() or command.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_after_kills_a_run_ends_as_an_undisturbed_one(tmp_path_factory: pytest.TempPathFactory, kills: int) -> None:
    draw = random.Random(kills)
    fresh = write_project(tmp_path_factory.mktemp("fresh"), {name: diamond()[name] for name in "ae"})
    finished = shutil.copytree(fresh, tmp_path_factory.mktemp("finished") / "copy")
    begun = time.monotonic()
    run(finished, "--jobs", "2")
    seconds, expected = time.monotonic() - begun, contents(finished)
    for number in range(kills // 2):
        # From nothing, or with a lock and a copy of it, where each stage writes the lock again.
        folder = shutil.copytree(finished if number % 2 else fresh, tmp_path_factory.mktemp("killed") / "copy")
        for _ in range(2):
            process = start(folder, "--jobs", "2", *(["--force"] if number % 2 else []))
            time.sleep(draw.uniform(0, seconds))
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for one in draw.sample(family, len(family)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.communicate()
        run(folder, "--jobs", "2")
        assert contents(folder) == expected


def test_ctrl_c_spares_a_dvc_that_is_past_its_command(finished: Path, expected: dict[str, bytes]) -> None:
    draw = random.Random(1)
    for _ in range(3):
        process = start(finished, "--jobs", "2", "--force")
        time.sleep(draw.uniform(0.5, 5))
        process.send_signal(signal.SIGINT)
        process.communicate()
        # The entry of a stage that was stopped is there: nothing was cut, and nothing had to be restored.
        assert (finished / "dvc.lock").read_bytes() == expected["dvc.lock"]
    run(finished)


def test_a_lock_that_was_cut_is_restored_first(finished: Path, expected: dict[str, bytes]) -> None:
    (finished / "dvc.lock").write_bytes(expected["dvc.lock"][:-30])
    assert run(finished).startswith("dvc.lock was cut short; restored from a copy: e\nStages: 0 run, 5 up to date")
    shutil.rmtree(finished / ".dvc/tmp/repro")
    (finished / "dvc.lock").write_bytes(expected["dvc.lock"][:-30])
    assert "in no copy, so runs again: e" in run(finished)
    assert contents(finished) == expected


def test_what_takes_longest_goes_first_and_devices_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    needs: dict[str, set[str]] = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b"}}
    assert repro.rank_stages(needs, {"b": 5, "c": 20}) == {"a": 21, "b": 6, "c": 20, "d": 1}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-1")
    assert repro.list_devices() == ["0", "GPU-1"]
