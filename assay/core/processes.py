"""One process for an output at a time, and none that outlives the run that started it."""

import contextlib
import fcntl
import hashlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from threading import Thread

import psutil

from assay.core.errors import InputError

LOCKS = Path(".cache/locks")
TRAINS_WITH = "ASSAY_TRAINS_WITH"
"""Given to the processes that a stage starts to train with it (`assay/compute/process_group.py`)."""
STARTED_BY = {"DVC_STAGE", "ASSAY_REPRO", TRAINS_WITH}
"""Variables that `dvc`, `make repro` and such a stage give to what they start."""


@contextlib.contextmanager
def hold(file: Path, what: str, waits: bool = False) -> Iterator[bool]:
    """Lock a file for as long as the block takes, then delete it; yields whether the process before was killed.

    Raises `InputError` if another process has it; `waits`: waits for that one instead.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with file.open("a+", encoding="utf-8") as lock:
            lock.seek(0)
            try:
                # Unlike that of `flock`, a fork does not inherit it, so it goes with the process that took it.
                fcntl.lockf(lock, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise InputError(f"{what} is running here already: {lock.read()}; wait for it, or end it") from None
            if os.fstat(lock.fileno()).st_nlink:  # 0: whoever had it has deleted it since it was opened
                was_killed = bool(lock.read())
                lock.truncate(0)
                print(f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}", end="", file=lock, flush=True)
                try:
                    yield was_killed
                finally:
                    file.unlink(missing_ok=True)
                return


def lock_of(path: Path) -> Path:
    """The file to lock for an output, which is none itself: it lies apart from them."""
    return LOCKS / hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]


@contextlib.contextmanager
def only_run(main: Callable[[], None]) -> Iterator[None]:
    """If `main` is a stage's, raise `InputError` where the same is running, and end with what started it.

    Of processes that train together, the first one alone is asked.
    """
    file = Path(inspect.getfile(main))
    if file.parent.name == "stages" and {"DVC_STAGE", TRAINS_WITH} & os.environ.keys():
        Thread(target=end_with_parents, args=[psutil.Process().parents()], daemon=True).start()
    if file.parent.name != "stages" or os.environ.get("RANK", "0") != "0":
        yield
        return
    name = "@".join([file.stem, *sys.argv[1:]])
    with hold(lock_of(Path("stages", name)), name):
        yield


def end_with_parents(parents: list[psutil.Process]) -> None:
    """End this process as soon as one of its parents has, up to the `dvc` or the `make repro` that started it."""

    def is_of_run(parent: psutil.Process) -> bool:
        with contextlib.suppress(psutil.AccessDenied):  # somebody else's, so above the run
            return bool(STARTED_BY & parent.environ().keys())
        return False

    with contextlib.suppress(psutil.NoSuchProcess):
        started = len([*takewhile(is_of_run, parents)]) + 1
        while psutil.Process().parents()[:started] == parents[:started]:
            time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
