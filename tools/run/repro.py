"""`make repro`: run the stages that have changed, several at once.

DVC says what there is and what has changed. Each stage runs by `dvc repro --single-item`, in a session of its own, as
soon as what it needs is done; one whose inputs come out as they were is not started. Nothing here decides what a stage
writes: plain `dvc repro` makes the same. Of the stages that can start, the one with the longest way to the end goes
first, by seconds of earlier runs. A failed stage stops only what depends on it. `lock_guard` keeps `dvc.lock` whole.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psutil
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

from assay.core.errors import InputError, run_stage
from assay.core.params import PARAMS_FILE, read_yaml
from assay.core.processes import hold
from tools.changes.readme_results import print_results
from tools.doctor import cores
from tools.params.check import was_found_right
from tools.run.lock_guard import GOOD_COPY, guard_lock, replace_text
from tools.run.stale_outputs import delete_stale_outputs

CURRENT_RUN = GOOD_COPY.with_name("running")
"""Locked by the run that is on; a run that was killed leaves its number in it."""
SECONDS = GOOD_COPY.with_name("seconds.json")
"""How long each stage took last time."""
STATUS_SECONDS = 10
"""Between two status lines."""
HINTS = ("Running stage", "Updating lock", "Generating lock", "To track", "To enable", "\tgit", "\tdvc", "Use `dvc")
WAITS, RUNS, *ENDS = "would run", "runs", "run", "up to date", "failed", "not run"
RAN, UNCHANGED, FAILED, NOT_RUN = ENDS
Needs = dict[str, set[str]]


def parse_arguments() -> argparse.Namespace:
    """The options, named as those of `dvc repro`."""
    usage = 'make repro [JOBS=n] [ARGS="[options] [stages]"]; for other options, `dvc repro` in the activated .venv'
    parser = argparse.ArgumentParser(prog="make repro", usage=usage)
    parser.add_argument("targets", nargs="*", metavar="stages", help="these and what they need; without: all")
    parser.add_argument("-j", "--jobs", type=int, help="stages at once; without: cores / compute.threads")
    parser.add_argument("-f", "--force", action="store_true", help="run what has not changed, too")
    parser.add_argument("-s", "--single-item", action="store_true", help="the named stages alone")
    parser.add_argument("--dry", action="store_true", help="say what would run, and run nothing")
    options = parser.parse_args()
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"JOBS={options.jobs}: a number of at least 1 is needed")
    return options


@contextlib.contextmanager
def only_run() -> Iterator[None]:
    """Raise `InputError` if another run is on in this folder; clear up after one that was killed."""
    with hold(CURRENT_RUN, "`make repro`") as was_killed:
        if was_killed:
            if orphans := signal_jobs(signal.SIGKILL, set()):
                print(f"ended {len(orphans)} processes that a killed `make repro` has left", flush=True)
            psutil.wait_procs(orphans, timeout=30)
            # DVC's list of files in use may be cut, or name numbers that other processes have got by now.
            Path(".dvc/tmp/rwlock").unlink(missing_ok=True)
        yield


def signal_jobs(number: int, done: set[int]) -> list[psutil.Process]:
    """Send a signal, once, to the processes of jobs in this folder, those of killed runs too; returns them.

    DVC itself gets SIGKILL alone: past the command of its stage it may be writing `dvc.lock`.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            variables = process.environ() if process.pid not in (os.getpid(), *done) else {}
            meant = number == signal.SIGKILL or "DVC_STAGE" in variables
            if meant and variables.get("ASSAY_REPRO") == str(Path.cwd()):
                process.send_signal(number)
                done.add(process.pid)
                found.append(process)
    return found


def run_job(name: str, flags: list[str], variables: dict[str, str], stops: list[int]) -> tuple[int, bool]:
    """Run `dvc repro --single-item` of a stage, and print its lines until `stops` has a signal.

    Returns the exit status, and whether the command ran: if not, DVC had its outputs in the cache.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *flags, name]
    variables = {**os.environ, **variables, "ASSAY_REPRO": str(Path.cwd()), "PYTHONUNBUFFERED": "1"}
    ran, last, out, err = False, "", subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, stdout=out, stderr=err, env=variables, start_new_session=True) as dvc:
        for raw in dvc.stdout or ():
            # Of a progress bar, what it shows at its end.
            line = raw.decode(errors="replace").rstrip().rpartition("\r")[2]
            ran |= line.startswith("Running stage")
            if line and not line.startswith(HINTS) and not stops:
                print(f"{name} │ {line}\n", end="", flush=True)
                last = last if ": failed to run: " in line else line
    if dvc.returncode and not stops:
        print(f"{name} failed: {last}\n", end="", flush=True)
    return dvc.returncode, ran


def rank_stages(needs: Needs, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest way from it; what never ran counts 1 s."""
    ranks: dict[str, float] = {}
    for name in reversed(needs):
        ranks[name] = seconds.get(name, 1) + max((ranks[other] for other in ranks if name in needs[other]), default=0)
    return ranks


def list_devices() -> list[str]:
    """CUDA devices that jobs may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        return [str(number) for number in range(listed.count("GPU "))]
    return [name for name in (named or "").split(",") if name]


def settle(plan: dict[str, Any], needs: Needs, state: dict[str, str], force: bool) -> None:
    """Decide on the stages whose needs are done: one that has not changed is done, too, others wait to run."""
    for name in plan:
        if name not in state and all(state.get(need) in (RAN, UNCHANGED) for need in needs[name]):
            state[name] = WAITS
            # If DVC cannot tell, `dvc repro` is to say why, in the stage's name.
            with contextlib.suppress(DvcException):
                state[name] = WAITS if force or plan[name].changed() else UNCHANGED


def run_stages(
    repo: Repo, plan: dict[str, Any], needs: Needs, state: dict[str, str], options: argparse.Namespace, stops: list[int]
) -> None:
    """Run what waits, and what can then run, until nothing is left; notes in `state` what became of each stage.

    The first signal in `stops` ends the commands of the stages, a second one kills all; then nothing starts any more.
    """
    compute = read_yaml(PARAMS_FILE)["compute"]
    jobs, flags = options.jobs or max(1, (cores() or 1) // compute["threads"]), ["--force"] if options.force else []
    devices = list_devices() if compute["device"] != "cpu" else []
    # A GPU for each job; several, where there are more than jobs, or a training is to have as many.
    wanted = max(1, len(devices) // jobs) if compute["processes"] == "auto" else compute["processes"]
    share = min(wanted, len(devices))
    params = {name: [dep.params for dep in plan[name].deps if isinstance(dep, ParamsDependency)] for name in plan}
    takes = {name for name in plan if devices and any("compute" in names for names in params[name])}
    seconds = json.loads(SECONDS.read_text(encoding="utf-8")) if SECONDS.is_file() else {}
    order, ranks = [stage.addressing for stage in repo.index.stages], rank_stages(needs, seconds)
    running: dict[Future[tuple[int, bool]], str] = {}
    started, used, interrupted, shown = dict[str, float](), dict[str, list[str]](), set[int](), time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        while True:
            for name in sorted((name for name in state if state[name] == WAITS), key=lambda name: -ranks[name]):
                free = [device for device in devices if not any(device in held for held in used.values())]
                if len(running) < jobs and not stops and (len(free) >= share or name not in takes):
                    variables = {"OMP_NUM_THREADS": str(compute["threads"])}
                    if name in takes:
                        used[name] = free[:share]
                        variables["CUDA_VISIBLE_DEVICES"] = ",".join(used[name])
                    state[name], started[name] = RUNS, time.monotonic()
                    running[pool.submit(run_job, name, flags, variables, stops)] = name
            if not running:
                return
            if ended := wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done:
                # If another DVC keeps its lock for three seconds, as it does to save a model, then the next time.
                with contextlib.suppress(LockError), repo.lock:
                    guard_lock(order)
                    for job in ended:
                        (status, ran), name = job.result(), running.pop(job)
                        used.pop(name, None)
                        state[name] = (NOT_RUN if stops else FAILED) if status else RAN if ran else UNCHANGED
                        if state[name] == RAN:
                            seconds[name] = round(time.monotonic() - started[name], 1)
                            replace_text(SECONDS, json.dumps(seconds))
                    settle(plan, needs, state, options.force)
            if stops:
                signal_jobs(*((signal.SIGINT, interrupted) if len(stops) == 1 else (signal.SIGKILL, set())))
            if time.monotonic() - shown > STATUS_SECONDS:
                shown = time.monotonic()
                since = {name: shown - started[name] for name in running.values()}
                undone = [name for name in plan if state.get(name, WAITS) in (WAITS, RUNS)]
                runs = ", ".join(f"{name} {since[name]:.0f} of {seconds.get(name, '?')} s" for name in since)
                left = sum(max(0, seconds.get(name, 0) - since.get(name, 0)) for name in undone) / jobs
                new = sum(name not in seconds for name in undone)
                waits = len(undone) - len(since)
                print(f"{runs}; {waits} wait; by last times {left:.0f} s left, {new} never ran here", flush=True)


def main() -> None:
    """Bring `dvc.lock` and what is switched off in order, run what has changed, and print what came out."""
    options, started, state, stops = parse_arguments(), time.monotonic(), dict[str, str](), list[int]()
    # In a process of its own: it imports the model libraries, which would stay in memory and in the environment.
    if not was_found_right() and subprocess.run([sys.executable, "-m", "tools.params.check"]).returncode:
        sys.exit(1)
    try:
        with only_run(), Repo() as repo:
            with repo.lock:
                guard_lock([])
                stages = [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]
                if not options.dry:
                    delete_stale_outputs(stages)
                guard_lock([stage.addressing for stage in stages])
                graph = get_active_graph(repo.index.graph)
                chosen = collect_stages(repo, options.targets) if options.targets else stages
                steps = plan_repro(graph, chosen)
                plan = {stage.addressing: stage for stage in steps if stage in chosen or not options.single_item}
                needs = {name: {one.addressing for one in graph.successors(plan[name])} & plan.keys() for name in plan}
                settle(plan, {name: set() for name in plan} if options.dry else needs, state, options.force)
            if options.dry:
                for name in plan:
                    if state[name] == UNCHANGED and any(state[need] != UNCHANGED for need in needs[name]):
                        state[name] = "would run if what it needs comes out different"
                    print(f"{name} {state[name]}")
                return
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda number, _: stops.append(number))
            run_stages(repo, plan, needs, state, options, stops)
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error
    failed = [name for name in plan if state.get(name) == FAILED]
    ends = [end if (end := state.get(name)) in ENDS else NOT_RUN for name in plan]
    counts = ", ".join(f"{ends.count(end)} {end}" for end in ENDS)
    print(f"Stages: {counts}; {time.monotonic() - started:.0f} s")
    if stops:
        print("Stopped; `make repro` goes on from here")
    elif failed:
        print(f'Mend what failed and go on: `make repro`; with that alone: `make repro ARGS="{" ".join(failed)}"`')
    elif "report" in plan:
        print_results()
    sys.exit(130 if stops else int(bool(failed)))


if __name__ == "__main__":
    run_stage(main)
