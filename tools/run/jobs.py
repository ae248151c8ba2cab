"""The processes of `make repro`: one run in a folder, a session for each stage, nothing that outlives the run."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from assay.core.errors import InputError
from tools.run.lock_guard import GOOD_COPY

RUNNING = GOOD_COPY.with_name("running")
"""Locked by the run that is on; a run that was killed leaves its number in it."""
RWLOCK = Path(".dvc/tmp/rwlock")
HINTS = (
    "Running stage",
    "Updating lock",
    "Generating lock",
    "To track",
    "\tgit add",
    "To enable",
    "\tdvc config",
    "Use `dvc",
)
NOTHING_RAN = "Data and pipelines are up to date."
LEADER = """
import os, signal, subprocess, sys, threading
job = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os.killpg(0, signal.SIGKILL)), daemon=True).start()
os._exit(job.wait() != 0)
"""
"""Leads the session of a job: starts it, and kills the whole session as soon as the pipe to `make repro` is closed."""


@dataclass
class Job:
    """A stage that runs."""

    name: str
    leader: subprocess.Popen[bytes]
    output: int
    device: str | None
    started: float
    partial_line: bytes = b""
    last_line: str = ""
    restored: bool = False
    busy: bool = False
    """DVC said that another process is using the files of the stage."""


def start_job(name: str, flags: list[str], environment: dict[str, str], device: str | None) -> Job:
    """Start `dvc repro --single-item` of a stage, with a CUDA device of its own if one is given."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *flags, name]
    environment = {**environment, "ASSAY_REPRO": str(Path.cwd())}
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device
    leader = subprocess.Popen(
        [sys.executable, "-ISc", LEADER, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    assert leader.stdout is not None
    os.set_blocking(leader.stdout.fileno(), False)
    return Job(name, leader, leader.stdout.fileno(), device, time.monotonic())


def read_lines(job: Job) -> list[str]:
    """The lines that a job has printed since, without DVC's hints; of a progress bar, what it shows at its end."""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(job.output, 1 << 16):
            job.partial_line += chunk
    *whole, rest = job.partial_line.split(b"\n")
    job.partial_line = rest[rest.rfind(b"\r", 0, -1) + 1 :]
    lines = [line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace").rstrip() for line in whole]
    for line in filter(None, lines):
        job.restored |= line.endswith("is cached - skipping run, checking out outputs") or line == NOTHING_RAN
        job.busy |= "Unable to acquire lock" in line or "it is being blocked by" in line
        job.last_line = job.last_line if ": failed to run: " in line else line
    return [line for line in lines if line and line != NOTHING_RAN and not line.startswith(HINTS)]


def kill_job(job: Job) -> None:
    """Kill DVC, the command of the stage and whatever that has started."""
    if job.leader.poll() is None:
        os.killpg(job.leader.pid, signal.SIGKILL)


def interrupt_job(job: Job, done: set[int]) -> None:
    """Send SIGINT, once, to the command of a stage; not to DVC, which past its command may be writing `dvc.lock`."""
    with contextlib.suppress(psutil.Error):
        for dvc in psutil.Process(job.leader.pid).children() if job.leader.poll() is None else []:
            for process in dvc.children(recursive=True):
                if process.pid not in done:
                    done.add(process.pid)
                    process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def only_run(wait: bool) -> Iterator[None]:
    """Raise `InputError` if another run is on in this folder, or wait for it; clear up after one that was killed."""
    if not Path(".dvc").is_dir():
        raise InputError(f"{Path.cwd()}: there is no .dvc here; run from the top of the repository, after `make setup`")
    RUNNING.parent.mkdir(parents=True, exist_ok=True)
    with RUNNING.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            message = f"`make repro` is running here already: {file.read()}; wait for it, or stop it there with Ctrl-C"
            raise InputError(message) from None
        file.seek(0)
        if file.read():
            end_orphans()
            # DVC's list of files in use may be cut, or name numbers that other processes have got by now.
            RWLOCK.unlink(missing_ok=True)
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}")
        file.flush()
        yield
        file.truncate(0)


def end_orphans() -> None:
    """End what a run that was killed has left running."""
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("ASSAY_REPRO") == str(Path.cwd()):
                process.kill()
                orphans.append(process)
    if orphans:
        print(f"ended {len(orphans)} processes that a killed `make repro` has left", flush=True)
    if alive := psutil.wait_procs(orphans, timeout=30)[1]:
        raise InputError(f"a `make repro` that was killed left processes that do not end: {[one.pid for one in alive]}")
