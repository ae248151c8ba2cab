"""Several processes that train one model together, each on a device and with its share of every batch.

The stage starts the others itself and is the first of them (rank 0, in PyTorch's words), so that `dvc repro` needs
nothing by hand. Under `accelerate launch` or `torchrun`, which start all of them, nothing is started here.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from threading import Thread
from typing import IO

from assay.compute.device import Compute
from assay.core.errors import InputError
from assay.core.processes import TRAINS_WITH

SECONDS_TO_END, SECONDS_TO_SAY_WHY = 60, 5


def process_count(compute: Compute) -> int:
    """Processes of a training: `auto` is one for each CUDA device that this process sees, and one on CPU.

    Raises `InputError`: there are fewer devices than processes.
    """
    if compute.device == "cpu":
        return 1 if compute.processes == "auto" else compute.processes
    import torch

    devices = torch.cuda.device_count()
    count = max(1, devices) if compute.processes == "auto" else compute.processes
    if count > max(1, devices):
        raise InputError(f"params.yaml: `compute.processes` = {count}, but PyTorch sees {devices} CUDA device(s)")
    return count


def start_others(compute: Compute) -> None:
    """Start the processes that train with this one, if params ask for some; they run the same command.

    If one of them fails, the last line that it printed is shown, and this process ends, which would wait for it. They
    end when this one does.
    """
    count = process_count(compute)
    if count == 1 or "WORLD_SIZE" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    spec = sys.modules["__main__"].__spec__
    command = [sys.executable, "-m", spec.name if spec else "", *sys.argv[1:]]
    print(f"{count} processes train together, each on its share of every batch", file=sys.stderr)
    for rank in range(1, count):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), TRAINS_WITH: str(os.getpid())}
        # A pipe would have to be emptied; the file goes with the thread.
        printed = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        process = subprocess.Popen(command, stdout=printed, stderr=printed, env={**os.environ, **group, **own})
        Thread(target=_watch, args=[process, rank, printed], daemon=True).start()
        atexit.register(_end, process)
    os.environ.update(group, RANK="0", LOCAL_RANK="0")


def _watch(process: subprocess.Popen[bytes], rank: int, printed: IO[str]) -> None:
    """End this process when another of the group has failed, and it has not for the same reason."""
    if process.wait():
        time.sleep(SECONDS_TO_SAY_WHY)
        printed.seek(0)
        last = printed.read().strip().splitlines()[-1:] or ["nothing printed"]
        print(f"error: process {rank} of those that train together failed: {last[0]}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for another process of the group, which has nothing left to do; kill one that still waits for this one."""
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
