"""Measure in which precision and with how many threads this machine trains fastest: `make calibrate`.

Times real training steps of `finetune.full` (its encoder, batch and code) for each number of threads and precision:
alone, and with as many processes side by side as `make repro` starts with that many threads. Where a setting trains at
least 1.3 times the rows per second of the one in params.yaml, side by side, it is written there for review; every
stage with a model then runs again. With `compute.device: cuda` only precisions are compared. Run it on a machine that
does nothing else.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.core.params import PARAMS_FILE, load_params
from assay.core.progress import progress, quiet_libraries
from tools.changes.revisions import require_committed
from tools.command_line import command_line
from tools.doctor import cores
from tools.params.preset import replace_values

TRAIN = Path("data/split/train.parquet")
INVENTED = [" ".join(["the words of a text that nobody wrote"] * times) for times in (1, 2, 2, 3, 4)]
"""Where there are no train rows yet."""
STEPS, WARM_UP_STEPS = 12, 3
MIN_GAIN = 1.3
"""A setting that is this many times as fast is worth a change."""
MAX_SIDE_BY_SIDE = 8
"""Processes at once: the graph has no more stages with models that could run beside each other."""


def time_training(threads: int, precision: str) -> None:
    """Train in this process, once a line on standard input says so, and print rows, wall and CPU seconds as JSON."""
    import numpy as np

    from assay.classifiers.checkpoint import new_classifier
    from assay.classifiers.fit import fit_classifier
    from assay.classifiers.fits import Data, Rows
    from assay.compute.device import Compute, prepare_device
    from assay.fine_tuning.params import Full

    quiet_libraries()
    compute = load_params("compute", Compute).model_copy(update={"threads": threads, "precision": precision})
    device = prepare_device(compute)
    params = load_params("finetune.full", Full).model_copy(update={"max_epochs": 1, "patience_epochs": None})
    model, tokenizer = new_classifier(params.model, ["a", "b"], params.pooling)
    model.to(device.device)  # type: ignore[arg-type]  # a wrapper of transformers hides its signature
    texts = pl.read_parquet(TRAIN, columns=["text"])["text"].to_list() if TRAIN.is_file() else INVENTED

    def rows_of(count: int) -> Rows:
        taken = [texts[row % len(texts)] for row in range(count)]
        return Rows([""] * count, taken, ["a"] * count, np.arange(count) % 2, np.ones(count))

    def fit(steps: int) -> None:
        data = Data(rows_of(steps * params.batch_size), rows_of(2), ["a", "b"])
        fit_classifier(params, model, tokenizer, data, device, np.random.default_rng(0))

    fit(WARM_UP_STEPS)
    print("ready", flush=True)
    sys.stdin.readline()
    usage, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    fit(STEPS)
    wall, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime
    print(json.dumps({"rows": STEPS * params.batch_size, "wall": wall, "cpu": cpu}), flush=True)


def measure(threads: int, precision: str, processes: int) -> dict[str, Any]:
    """Rows per wall and per CPU second of so many processes that train at the same time. `InputError`: one fails."""
    command = [sys.executable, "-m", "tools.run.calibrate", "--time", str(threads), precision]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    running = [subprocess.Popen(command, text=True, encoding="utf-8", **pipes) for _ in range(processes)]
    try:
        for one in running:
            if one.stdout is None or one.stdout.readline() != "ready\n":
                said = one.communicate()[1].strip()
                raise InputError(f"{precision} with {threads} thread(s) cannot be timed: {said}")
        for one in running:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        done = [json.loads(one.communicate()[0]) for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    return {
        "precision": precision,
        "threads": threads,
        "processes": processes,
        "rows_per_second": sum(one["rows"] / one["wall"] for one in done),
        "rows_per_cpu_second": sum(one["rows"] for one in done) / sum(one["cpu"] for one in done),
    }


def settings(device: str, threads: int, of_machine: int) -> list[tuple[int, str, int]]:
    """Threads, precision and processes of each measurement: every power of two of threads, alone and side by side."""
    powers = {2**power for power in range(of_machine.bit_length())} if device == "cpu" else set[int]()
    found = []
    for count in sorted({*powers, threads}):
        side_by_side = max(1, min(of_machine // count, MAX_SIDE_BY_SIDE)) if device == "cpu" else 1
        for processes in sorted({1, side_by_side}):
            found += [(count, precision, processes) for precision in ("float32", "bfloat16")]
    return found


def fastest_setting(rows: list[dict[str, Any]], precision: str, threads: int) -> tuple[dict[str, Any], float]:
    """The measurement that trains most rows per second, and its gain over a setting; 1 if that was not measured.

    Compared are processes side by side, as many as there is room for with that many threads.
    """
    # Of one setting, the one with more processes comes later.
    most = {(row["precision"], row["threads"]): row for row in rows}
    best = max(most.values(), key=lambda row: float(row["rows_per_second"]))
    return best, best["rows_per_second"] / most.get((precision, threads), best)["rows_per_second"]


def main() -> None:
    """Measure, print the table, and change params.yaml where that is worth it."""
    parser = command_line("make calibrate", __doc__, whole=True)
    parser.add_argument("--time", nargs=2, metavar=("THREADS", "PRECISION"), help="used by itself, for one process")
    arguments = parser.parse_args()
    if arguments.time:
        time_training(int(arguments.time[0]), arguments.time[1])
        return
    from assay.compute.device import Compute

    require_committed(PARAMS_FILE)
    compute = load_params("compute", Compute)
    todo = settings(compute.device, compute.threads, cores() or 1)
    rows = [measure(*one) for one in progress(todo, "calibrate", total=len(todo), unit="setting")]
    print("precision  threads  processes  rows/s together  rows per CPU second")
    line = "{precision:9}  {threads:7}  {processes:9}  {rows_per_second:15.1f}  {rows_per_cpu_second:19.1f}"
    print(*(line.format(**row) for row in rows), sep="\n")
    best, gain = fastest_setting(rows, compute.precision, compute.threads)
    said = f"{best['precision']} with {best['threads']} thread(s)"
    if gain < MIN_GAIN:
        print(f"{PARAMS_FILE} stays as it is: {said} is the fastest, {gain:.2f} times as fast; it must be {MIN_GAIN}")
        return
    new: dict[str, str | None] = {f"compute.{key}": f" {best[key]}" for key in ("precision", "threads")}
    write_text(PARAMS_FILE, replace_values(PARAMS_FILE.read_text(encoding="utf-8"), new))
    print(f"{PARAMS_FILE} now has {said}, {gain:.2f} times as fast; see `git diff {PARAMS_FILE}`, and commit it")


if __name__ == "__main__":
    run_stage(main)
