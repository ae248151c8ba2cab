"""`make repro`: run the stages that have changed, several at once.

DVC says what there is and what has changed. Each stage runs by `dvc repro --single-item` as soon as what it needs is
done; one whose inputs come out as they were is not started. Nothing here decides what a stage writes: plain `dvc repro`
makes the same. Seconds of earlier runs decide the order: of the stages that can start, the one with the longest way to
the end goes first. A failed stage stops only what depends on it. `lock_guard` keeps `dvc.lock` whole.
"""

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import zc.lockfile

from assay.core.errors import InputError, run_stage
from tools.run.jobs import Job, interrupt_job, kill_job, only_run, read_lines, start_job
from tools.run.lock_guard import GOOD_COPY, guard_lock
from tools.run.stale_outputs import check_lists, delete_stale_outputs

SECONDS = GOOD_COPY.with_name("seconds.json")
STATUS_SECONDS = 10
"""Between two status lines where there is no terminal."""
BUSY_TRIES = 30
"""How often, 2 s apart, a stage is tried whose files another DVC process is using."""
KINDS = RUN, RESTORED, UNCHANGED, FAILED, BLOCKED = (
    "run",
    "restored from DVC's cache",
    "unchanged",
    "failed",
    "not run after that",
)


@dataclass
class Run:
    """The stages of one `make repro` and what has become of them so far."""

    plan: dict[str, Any]
    needs: dict[str, set[str]]
    order: list[str]
    seconds: dict[str, float]
    outcome: dict[str, str] = field(default_factory=dict)
    running: list[Job] = field(default_factory=list)
    waiting: dict[str, float] = field(default_factory=dict)
    """Stages that can start → earliest time."""
    tries: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)
    stops: list[int] = field(default_factory=list)
    """Signals that have come: the first one stops, the second one kills."""
    shown: float = field(default_factory=time.monotonic)
    """Time of the last status line."""


def parse_arguments() -> argparse.Namespace:
    """The options; refuses those of `dvc repro` that are not supported, by name."""
    parser = argparse.ArgumentParser(prog="make repro", usage='make repro [JOBS=n] [ARGS="[options] [stages]"]')
    parser.add_argument("targets", nargs="*", metavar="stages", help="these and what they need; without: all")
    parser.add_argument("-j", "--jobs", type=int, help="stages at once; without: cores / compute.threads")
    parser.add_argument("-f", "--force", action="store_true", help="run what has not changed, too")
    parser.add_argument("-s", "--single-item", action="store_true", help="the named stages alone")
    parser.add_argument("--downstream", action="store_true", help="the named stages and what depends on them")
    parser.add_argument("--pull", action="store_true", help="pull missing outputs from the DVC remote")
    parser.add_argument("--dry", action="store_true", help="say what would run, and run nothing")
    parser.add_argument("--wait", action="store_true", help="wait while another `make repro` runs in this folder")
    options, others = parser.parse_known_args()
    if others:
        parser.error(f"no such option: {others[0]}; use `dvc repro {' '.join(sys.argv[1:])}` in the activated .venv")
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"JOBS={options.jobs}: a number of at least 1 is needed")
    return options


def read_seconds() -> dict[str, float]:
    """Stage → seconds that it took last time, as far as that is known."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(SECONDS.read_text(encoding="utf-8")))
    return {}


def plan_stages(
    repo: Any, stages: list[Any], options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """Those that `dvc repro` with these options would go through, in its order, and what each needs of them."""
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    chosen = collect_stages(repo, options.targets) if options.targets else stages
    steps = plan_repro(graph, chosen, downstream=options.downstream)
    plan = {stage.addressing: stage for stage in steps if stage in chosen or not options.single_item}
    return plan, {name: {need.addressing for need in graph.successors(plan[name])} & plan.keys() for name in plan}


def rank_stages(needs: dict[str, set[str]], seconds: dict[str, float]) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest way from it; what never ran counts 1 s."""
    ranks: dict[str, float] = {}
    for name in reversed(needs):
        ranks[name] = seconds.get(name, 1) + max((ranks[other] for other in ranks if name in needs[other]), default=0)
    return ranks


def list_devices(compute: dict[str, Any]) -> list[str]:
    """CUDA devices that jobs may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if compute.get("device") == "cpu" or (named is None and shutil.which("nvidia-smi") is None):
        return []
    if named is not None:
        return [name for name in named.split(",") if name]
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(number) for number in range(listed.count("GPU "))]


def has_changed(stage: Any) -> bool:
    """Whether DVC would run a stage. If it cannot tell, `dvc repro` is to say why, in the stage's name."""
    from dvc.exceptions import DvcException

    try:
        return bool(stage.changed())
    except DvcException:
        return True


def settle(run: Run, force: bool) -> None:
    """Decide on the stages whose needs are done: unchanged, without hope, or ready to start."""
    for name in run.plan:
        known = name in run.outcome or name in run.waiting or any(job.name == name for job in run.running)
        if known or run.stops or not run.needs[name] <= run.outcome.keys():
            continue
        if {run.outcome[need] for need in run.needs[name]} & {FAILED, BLOCKED}:
            run.outcome[name] = BLOCKED
        elif force or has_changed(run.plan[name]):
            run.waiting[name] = 0
        else:
            run.outcome[name] = UNCHANGED


def record(run: Run, job: Job) -> None:
    """Take an ended job from those that run, and note what became of it."""
    print_lines(run, job)
    run.running.remove(job)
    took = time.monotonic() - job.started
    if job.leader.returncode == 0:
        run.outcome[job.name] = RESTORED if job.restored else RUN
        if not job.restored:
            run.seconds[job.name] = round(took, 1)
            partial = SECONDS.with_name(".seconds.partial")
            partial.write_text(json.dumps(run.seconds), encoding="utf-8")
            partial.replace(SECONDS)
    elif job.busy and run.tries[job.name] < BUSY_TRIES:
        run.tries[job.name] += 1
        run.waiting[job.name] = time.monotonic() + 2
    elif not run.stops:
        run.outcome[job.name] = FAILED
        run.errors[job.name] = job.last_line
        say(f"{job.name} │ failed after {took:.0f} s")


def say(line: str) -> None:
    """Print a line in the place of the status line of a terminal, which comes again below it."""
    print(f"\r\x1b[K{line}" if sys.stdout.isatty() else line, flush=True)


def print_lines(run: Run, job: Job) -> None:
    """Print what a job has printed, with its name; not the tracebacks after Ctrl-C."""
    for line in read_lines(job):
        if not run.stops:
            say(f"{job.name} │ {line}")


def show_status(run: Run) -> None:
    """What runs, since when and how long it took last time, and what waits; on a terminal in one place."""
    now, terminal = time.monotonic(), sys.stdout.isatty()
    if run.running and (terminal or now - run.shown >= STATUS_SECONDS):
        run.shown = now
        last = {name: f" (last time {seconds:.0f} s)" for name, seconds in run.seconds.items()}
        jobs = ", ".join(f"{job.name} {now - job.started:.0f} s{last.get(job.name, '')}" for job in run.running)
        waits = len(run.plan) - len(run.outcome) - len(run.running)
        line = f"[{len(run.outcome)} of {len(run.plan)} done, {waits} wait] {jobs}"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{line[:width]}" if terminal else f"{line}\n", end="", flush=True)


@contextlib.contextmanager
def try_lock(repo: Any) -> Iterator[bool]:
    """DVC's lock of the repository, or False if a DVC process has it, which may be for as long as it saves a model."""
    from dvc.lock import LockError

    try:
        zc.lockfile.LockFile(repo.lock.lockfile).close()  # DVC would wait for three seconds
        repo.lock.lock()
    except (zc.lockfile.LockError, LockError):
        yield False
        return
    try:
        yield True
    finally:
        repo.lock.unlock()


def run_stages(repo: Any, run: Run, options: argparse.Namespace, compute: dict[str, Any], jobs: int) -> None:
    """Run what has changed, until nothing is left that can; after Ctrl-C, until the jobs have ended."""
    from dvc.dependency import ParamsDependency

    ranks, devices, threads = rank_stages(run.needs, run.seconds), list_devices(compute), str(compute["threads"])
    params = {name: [dep.params for dep in run.plan[name].deps if isinstance(dep, ParamsDependency)] for name in ranks}
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    flags = [f"--{name}" for name in ("force", "pull") if getattr(options, name)]
    settled, interrupted = False, set[int]()
    while not settled or run.running or (run.waiting and not run.stops):
        ended = [job for job in run.running if job.leader.poll() is not None]
        if ended or not settled:
            with try_lock(repo) as locked:
                if locked:
                    for line in guard_lock(run.order):
                        say(line)
                    for job in ended:
                        record(run, job)
                    settle(run, options.force)
                    settled = True
        for name in sorted(run.waiting, key=lambda name: -ranks[name]):
            free = [device for device in devices if device not in [job.device for job in run.running]]
            takes = bool(devices) and any("compute" in names for names in params[name])
            full = len(run.running) >= jobs or run.stops or (takes and not free)
            if not full and run.waiting[name] <= time.monotonic():
                del run.waiting[name]
                run.running.append(start_job(name, flags, environment, free[0] if takes else None))
        select.select([job.output for job in run.running if job not in ended], [], [], 0.1)
        for job in run.running:
            print_lines(run, job)
            if len(run.stops) > 1:
                kill_job(job)
            elif run.stops:
                interrupt_job(job, interrupted)
        show_status(run)


def summarise(run: Run, started: float) -> int:
    """Print what became of the stages, and what to do after a failure; returns the exit status."""
    count = Counter(run.outcome.values())
    for name, error in run.errors.items():
        say(f"{name} failed: {error}")
    counts = ", ".join(f"{count[kind]} {kind}" for kind in KINDS if count[kind] or kind in (RUN, FAILED))
    say(f"Stages: {counts}; {time.monotonic() - started:.0f} s")
    if run.stops:
        say(f"Stopped with {len(run.plan) - len(run.outcome)} stages undone; `make repro` goes on from here")
    elif run.errors:
        say(f'Mend that and go on: `make repro`; with that alone: `make repro ARGS="{" ".join(run.errors)}"`')
    return 130 if run.stops else int(bool(run.errors))


def dry_run(run: Run) -> None:
    """Say what has changed, and what runs after it if its inputs come out different."""
    would: set[str] = set()
    for name, stage in run.plan.items():
        if changed := has_changed(stage) or would & run.needs[name]:
            would.add(name)
            print(f"{name} would run" + ("" if changed is True else " if what it needs comes out different"))
    print(f"{len(run.plan) - len(would)} of {len(run.plan)} stages are up to date")


def repro(options: argparse.Namespace, compute: dict[str, Any], jobs: int) -> int:
    """Bring `dvc.lock` and what is switched off in order, then run what has changed; returns the exit status."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    started = time.monotonic()
    try:
        with Repo() as repo:
            with repo.lock:
                for line in guard_lock([]):
                    say(line)
                stages = [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]
                if not options.dry:
                    delete_stale_outputs(stages)
                run = Run(*plan_stages(repo, stages, options), [stage.addressing for stage in stages], read_seconds())
                if options.dry:
                    dry_run(run)
                    return 0
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda number, _: run.stops.append(number))
            run_stages(repo, run, options, compute, jobs)
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error
    return summarise(run, started)


def main() -> None:
    """Check options and params, and end with the exit status."""
    options = parse_arguments()
    compute = check_lists().get("compute", {})
    if not isinstance(threads := compute.get("threads"), int) or threads < 1:
        raise InputError(f"params.yaml: `compute.threads` = {threads!r}: a number of at least 1 is needed")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with only_run(options.wait):
        status = repro(options, compute, options.jobs or max(1, cores // threads))
    sys.exit(status)


if __name__ == "__main__":
    run_stage(main)
